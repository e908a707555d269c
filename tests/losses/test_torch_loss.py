"""Any loss of torch by its name."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from losses.proofs import HEAD, LinearModel, at, waves
from losses.told import problems
from torch import Tensor, nn

from ssltyped.losses.torch_loss import KNOWN, TorchLoss, TorchLossConf
from ssltyped.types import Batch


def test_it_is_the_loss_of_torch() -> None:
    views, label = (waves(6, 5, 1, 1),), torch.tensor([0, 1, 2, 3, 4, -1])
    model = LinearModel()
    got = TorchLoss(heads=[HEAD], name="CrossEntropyLoss", args={"ignore_index": -1}).step(
        model, Batch(views=views, index=torch.arange(6), label=label), at(0)
    )
    torch.testing.assert_close(got.loss, F.cross_entropy(model.calls[0][0], label, ignore_index=-1))


def test_every_loss_of_torch_is_known() -> None:
    assert {"CrossEntropyLoss", "BCEWithLogitsLoss", "SmoothL1Loss", "KLDivLoss", "MultiMarginLoss"} <= set(KNOWN)
    assert not any(name.startswith("_") for name in KNOWN)


@pytest.mark.parametrize("name", ["CTCLoss", "TripletMarginLoss", "CosineEmbeddingLoss", "GaussianNLLLoss"])
def test_losses_of_more_than_an_output_and_a_label_are_refused(name: str) -> None:
    assert f"name: torch.nn has no loss {name!r} of an output and a label" in problems(TorchLossConf(name=name))


def test_every_known_loss_is_computed_from_an_output_and_a_label() -> None:
    """Of one shape or another: of rows, of classes, or of rows of classes."""
    output = (waves(6, 5).double() / 4).sigmoid()
    labels = [output.clone().round(), torch.tensor([0, 1, 2, 3, 4, 0]), output.clone().round().long()]
    for name, kind in KNOWN.items():
        assert any(_computes(kind(), output, label) for label in labels), name


def _computes(loss: nn.Module, output: Tensor, label: Tensor) -> bool:
    try:
        return bool(loss(output, label).isfinite().all())
    except (RuntimeError, ValueError):
        return False


def test_wrong_names_and_arguments() -> None:
    assert (
        "name: torch.nn has no loss 'CrossEntropyLos' of an output and a label; did you mean 'CrossEntropyLoss'?"
        in problems(TorchLossConf(name="CrossEntropyLos"))
    )
    wrong = problems(TorchLossConf(name="CrossEntropyLoss", args={"ignore_indx": 1}), train_labelled=False)
    assert "args.ignore_indx: CrossEntropyLoss takes no 'ignore_indx'; did you mean 'ignore_index'?" in wrong
    assert "needs labels" in wrong
    with pytest.raises(ValueError, match="no loss 'Nope'"):
        TorchLoss(heads=[HEAD], name="Nope")
