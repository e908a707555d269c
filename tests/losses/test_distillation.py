"""Distillation beyond what `test_proofs.py` proves of every loss."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from losses.list import taught
from losses.proofs import LinearModel, at, facts, waves
from losses.told import problems
from methods import crops, method
from torch import nn

from ssltyped import launch
from ssltyped.data.digits import DigitsConf
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.losses.distillation import (
    CropDistillationLoss,
    DINODistillationLoss,
    DistillationLoss,
    IBOTDistillationLoss,
    MSNDistillationLoss,
    Soft,
    SwAVDistillationLoss,
    other_classes,
)
from ssltyped.losses.supervised import CrossEntropyLossConf
from ssltyped.model.files import about, write_weights
from ssltyped.types import Batch, Loss

SCORES = partial(LinearModel, scored=(6,), embeds=False)
X, T = waves(5, 6), waves(7, 6)[2:]


def soft(kind: Soft, temperature: float = 1.0) -> DistillationLoss:
    loss = taught(DistillationLoss, SCORES, soft=kind, temperature=temperature)
    assert isinstance(loss, DistillationLoss)
    return loss


def test_equal_logits_cost_nothing_but_their_entropy() -> None:
    assert soft(Soft.KL, 2.0).compare(X, X).abs() < 1e-12
    assert soft(Soft.MSE).compare(X, X) == 0
    entropy = torch.special.entr((X / 2).softmax(dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(soft(Soft.CROSS_ENTROPY, 2.0).compare(X, X), 4 * entropy)


def test_kl_is_that_of_torch() -> None:
    want = torch.nn.functional.kl_div((X / 3).log_softmax(1), (T / 3).softmax(1), reduction="batchmean") * 9
    torch.testing.assert_close(soft(Soft.KL, 3.0).compare(X, T), want)


def test_which_crop_teaches_which() -> None:
    def pairs(swapped: bool) -> list[tuple[int, int]]:
        loss = taught(DINODistillationLoss, SCORES, crops_for_teacher=[0, 2], swapped=swapped)
        assert isinstance(loss, CropDistillationLoss)
        return loss.pairs(4)

    assert pairs(False) == [(0, 0), (0, 1), (0, 3), (1, 1), (1, 2), (1, 3)]
    assert pairs(True) == [(0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 3)]


def test_mistakes_are_named() -> None:
    assert "needs labels" in problems(taught(DistillationLoss, SCORES, alpha=0.5), train_labelled=False)
    assert problems(taught(DistillationLoss, SCORES, alpha=1.0), train_labelled=False) == ""
    assert "temperature: has no effect with mse" in problems(soft(Soft.MSE, 2.0))
    few = taught(DINODistillationLoss, SCORES, crops_for_teacher=[0, 2])
    assert "crops_for_teacher: got [0, 2], but the data makes the crops 0 to 1" in problems(few)
    assert "swapped: needs at least 2 crops" in problems(
        taught(DINODistillationLoss, SCORES, crops_for_teacher=[0], swapped=True), num_views=1
    )
    later = taught(IBOTDistillationLoss, SCORES, crops_for_teacher=[1])
    assert "it must be the first crops: 0, 1, ..." in problems(later)
    batch = Batch(views=(waves(4, 5, 1, 1),), index=torch.arange(4))
    with pytest.raises(ValueError, match="has 2 outputs, where exactly one is read"):
        taught(DistillationLoss, SCORES).step(LinearModel(scored=(6,)), batch, at(0))


@pytest.mark.parametrize(
    ("kind", "fits", "wrong", "wanted"),
    [
        (DistillationLoss, [(8,)], [(8, 8)], "exactly one output"),
        (DINODistillationLoss, [(8,)], [(8, 8)], "exactly one output"),
        (MSNDistillationLoss, [(8,)], [(8, 8)], "exactly one output"),
        (SwAVDistillationLoss, [(8, 6), (8, 6, 6)], [(8,)], "an embedding and scores"),
        (IBOTDistillationLoss, [(8, 6)], [(8,), (8, 6, 6)], "two outputs"),
    ],
)
def test_the_number_of_outputs(
    kind: type[Loss], fits: list[tuple[int, ...]], wrong: list[tuple[int, ...]], wanted: str
) -> None:
    """Nothing is said while it is not known."""
    loss = taught(kind, SCORES)
    for dims in [(), *fits]:
        assert problems(loss, outputs=dims) == ""
    for dims in wrong:
        told = problems(loss, outputs=dims)
        assert told.startswith(f"head: needs a head with {wanted}")
        assert told.endswith(f"; head has {len(dims)}")


def test_a_teacher_of_other_classes_is_refused(tmp_path: Path) -> None:
    """Labels and outputs of the teacher are numbers of the same classes only if these have the same names and order."""
    weights = tmp_path / "weights.pt"
    write_weights(weights, nn.Linear(2, 2), {"classes": "ant\nbee"})
    for classes, fine in ((("ant", "bee"), True), (("bee", "ant"), False), (("ant", "cat"), False), ((), True)):
        found = [str(problem) for problem in other_classes(weights, facts(classes=classes))]
        assert bool(found) is not fine
        if found:
            told = f"teacher.weights: its outputs are the classes ant, bee, the labels are {', '.join(classes)}"
            assert found[0].startswith(told)
    write_weights(weights, nn.Linear(2, 2), {})
    assert not list(other_classes(weights, facts(classes=("bee", "ant")))), "it does not say"
    weights.write_bytes(b"no weights")
    assert not list(other_classes(weights, facts(classes=("bee", "ant"))))


def test_a_run_that_learns_labels_says_which(tmp_path: Path) -> None:
    asked = method(
        views=crops(1),
        heads={"classes": MLPHeadConf(dims=[10])},
        loss=CrossEntropyLossConf(),
        fields={"data.train.source": DigitsConf(), "steps": 1, "epochs": None, "output": tmp_path},
    )
    assert about(launch(asked, name="labels").folder / "weights.pt")["classes"] == "\n".join("0123456789")
