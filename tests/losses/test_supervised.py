"""Losses of labels beyond what `test_proofs.py` proves of every loss."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from losses.proofs import HEAD, LinearModel, at, waves
from losses.told import problems
from ranks import run_on_ranks
from torch import Tensor, nn

from ssltyped import distributed
from ssltyped.losses.supervised import KNOWN, BCELoss, CrossEntropyLoss, CrossEntropyLossConf, TorchLoss, TorchLossConf
from ssltyped.types import Batch

X = waves(6, 4)
Y = torch.tensor([0, 1, 2, 3, -1, 2])


def test_as_torch_computes_it() -> None:
    want = F.cross_entropy(X / 0.5, Y, ignore_index=-1)
    torch.testing.assert_close(CrossEntropyLoss(heads=[HEAD], temperature=0.5).of_output(X, Y), want)
    weights = [1.0, 0.5, 2.0, 3.0]
    want = F.cross_entropy(X, Y, ignore_index=-1, weight=torch.tensor(weights, dtype=torch.float64))
    torch.testing.assert_close(CrossEntropyLoss(heads=[HEAD], class_weights=weights).of_output(X, Y), want)
    want = F.cross_entropy(X, Y, ignore_index=-1, label_smoothing=0.1)
    torch.testing.assert_close(CrossEntropyLoss(heads=[HEAD], label_smoothing=0.1).of_output(X, Y), want)
    want = F.cross_entropy(F.normalize(X, dim=1) / 0.1, Y, ignore_index=-1)
    torch.testing.assert_close(CrossEntropyLoss(heads=[HEAD], normalize=True, temperature=0.1).of_output(X, Y), want)


def test_rows_of_targets() -> None:
    target = waves(6, 4).softmax(dim=1)
    torch.testing.assert_close(CrossEntropyLoss(heads=[HEAD]).of_output(X, target), F.cross_entropy(X, target))


def test_options_hold_for_rows_too() -> None:
    target, weights = waves(6, 4).softmax(dim=1), [1.0, 0.5, 2.0, 3.0]
    smooth = 0.9 * target + 0.1 / 4
    want = F.cross_entropy(X, smooth, weight=torch.tensor(weights, dtype=torch.float64))
    got = CrossEntropyLoss(heads=[HEAD], label_smoothing=0.1, class_weights=weights).of_output(X, target)
    torch.testing.assert_close(got, want)
    with pytest.raises(ValueError, match="use BCELoss"):
        CrossEntropyLoss(heads=[HEAD]).of_output(X, torch.ones(6, 4, dtype=torch.int64))


def test_a_label_that_is_no_class() -> None:
    with pytest.raises(ValueError, match="an image has the label 4, and an output has 4 classes"):
        CrossEntropyLoss(heads=[HEAD]).of_output(X, torch.tensor([0, 1, 2, 3, 4, -1]))


def test_ignored_images_do_not_count_in_the_accuracy() -> None:
    model, batch = LinearModel().double(), Batch(views=(waves(6, 5, 1, 1),), index=torch.arange(6))
    best = model([batch.views[0]]).of(HEAD).argmax(dim=1)
    label = torch.where(torch.arange(6) < 2, best, -1)
    labelled = Batch(views=batch.views, index=batch.index, label=label)
    assert CrossEntropyLoss(heads=[HEAD]).step(model, labelled, at(0)).logs["top1"] == 100


def test_the_accuracy_of_scores_that_say_nothing_is_no_hit_and_that_of_no_image_is_nan() -> None:
    loss = CrossEntropyLoss(heads=[HEAD])
    assert loss.logs(torch.zeros(6, 4), torch.arange(6) % 4)["top1"] == 0
    assert loss.logs(torch.zeros(6, 4), torch.full((6,), -1))["top1"].isnan()


def accuracy_of_a_rank(labels: list[int]) -> float:
    """Rank 0 knows one label, which is right, rank 1 three, of which none is."""
    mine = torch.tensor(labels).chunk(2)[distributed.rank()]
    return float(CrossEntropyLoss(heads=[HEAD]).logs(torch.eye(4), mine)["top1"])


def test_the_accuracy_is_that_of_the_images_of_all_ranks() -> None:
    assert run_on_ranks(accuracy_of_a_rank, 2, [0, -1, -1, -1, 1, 2, 3, -1]) == [25.0, 25.0]


def test_views_and_predictions_share_the_label() -> None:
    one = CrossEntropyLoss(heads=[HEAD]).of_output(X, Y)
    torch.testing.assert_close(CrossEntropyLoss(heads=[HEAD]).of_output(torch.cat([X, X]), Y), one)
    torch.testing.assert_close(CrossEntropyLoss(heads=[HEAD]).of_output(X[:, None].expand(-1, 3, -1), Y), one)


def test_an_ignored_batch_costs_nothing() -> None:
    assert CrossEntropyLoss(heads=[HEAD]).of_output(X, torch.full((6,), -1)) == 0


def test_bce_as_torch_computes_it() -> None:
    target = (waves(6, 4) > 0).long()
    want = F.binary_cross_entropy_with_logits(X, target.double(), reduction="none").mean(dim=0).sum()
    torch.testing.assert_close(BCELoss(heads=[HEAD]).of_output(X, target), want)
    unknown = target.clone()
    unknown[:, 1] = -1
    kept = [0, 2, 3]
    want = F.binary_cross_entropy_with_logits(X, target.double(), reduction="none").mean(dim=0)[kept].sum()
    torch.testing.assert_close(BCELoss(heads=[HEAD]).of_output(X, unknown), want)


def test_labels_are_needed() -> None:
    model, batch = LinearModel().double(), Batch(views=(waves(6, 5, 1, 1),), index=torch.arange(6))
    for loss in (CrossEntropyLoss(heads=[HEAD]), BCELoss(heads=[HEAD])):
        assert "the images to train on have none" in problems(loss, train_labelled=False)
        assert problems(loss, train_labelled=None) == ""
        with pytest.raises(ValueError, match="the batch has no labels"):
            loss.step(model, batch, at(0))
    with pytest.raises(ValueError, match="a row of targets for each image"):
        BCELoss(heads=[HEAD]).step(model, Batch(views=batch.views, index=batch.index, label=Y), at(0))


def test_outputs_that_are_too_narrow_are_refused() -> None:
    narrow = problems(CrossEntropyLossConf(), num_classes=4, outputs=(3,))
    assert "heads: the views make 4 classes; head is 3 wide" in narrow
    wrong = problems(CrossEntropyLossConf(class_weights=[1.0, 2.0]), outputs=(3,))
    assert "class_weights: has 2 values; head is 3 wide" in wrong


def test_accumulated_batches_of_known_labels_are_one() -> None:
    loss, label = CrossEntropyLoss(heads=[HEAD]), Y.abs()
    halves = torch.stack([loss.of_output(x, y) for x, y in zip(X.chunk(2), label.chunk(2), strict=True)])
    torch.testing.assert_close(halves.mean(), loss.of_output(X, label))


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


def test_class_weights_of_accumulated_batches_are_refused() -> None:
    """Each would divide by the weights of its own images, and not by those of all."""
    weighted = CrossEntropyLossConf(class_weights=[1.0, 2.0, 1.0])
    assert "class_weights: accumulated batches would each divide" in problems(weighted, outputs=(3,), accumulation=2)
    assert "class_weights" not in problems(weighted, outputs=(3,))
