"""Supervised losses beyond what `test_proofs.py` proves of every loss."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from losses.proofs import LinearModel, waves
from losses.told import problems

from ssltyped.losses.cross_entropy import BCELoss, CrossEntropyLoss
from ssltyped.types import Batch

X = waves(6, 4)
Y = torch.tensor([0, 1, 2, 3, -1, 2])


def test_as_torch_computes_it() -> None:
    want = F.cross_entropy(X / 0.5, Y, ignore_index=-1)
    torch.testing.assert_close(CrossEntropyLoss(temperature=0.5).of_output(X, Y), want)
    weights = [1.0, 0.5, 2.0, 3.0]
    want = F.cross_entropy(X, Y, ignore_index=-1, weight=torch.tensor(weights, dtype=torch.float64))
    torch.testing.assert_close(CrossEntropyLoss(class_weights=weights).of_output(X, Y), want)
    want = F.cross_entropy(X, Y, ignore_index=-1, label_smoothing=0.1)
    torch.testing.assert_close(CrossEntropyLoss(label_smoothing=0.1).of_output(X, Y), want)
    want = F.cross_entropy(F.normalize(X, dim=1) / 0.1, Y, ignore_index=-1)
    torch.testing.assert_close(CrossEntropyLoss(normalize=True, temperature=0.1).of_output(X, Y), want)


def test_rows_of_targets() -> None:
    target = waves(6, 4).softmax(dim=1)
    torch.testing.assert_close(CrossEntropyLoss().of_output(X, target), F.cross_entropy(X, target))


def test_options_hold_for_rows_too() -> None:
    target, weights = waves(6, 4).softmax(dim=1), [1.0, 0.5, 2.0, 3.0]
    smooth = 0.9 * target + 0.1 / 4
    want = F.cross_entropy(X, smooth, weight=torch.tensor(weights, dtype=torch.float64))
    got = CrossEntropyLoss(label_smoothing=0.1, class_weights=weights).of_output(X, target)
    torch.testing.assert_close(got, want)
    with pytest.raises(ValueError, match="use BCELoss"):
        CrossEntropyLoss().of_output(X, torch.ones(6, 4, dtype=torch.int64))


def test_a_label_that_is_no_class() -> None:
    with pytest.raises(ValueError, match="an image has the label 4, and an output has 4 classes"):
        CrossEntropyLoss().of_output(X, torch.tensor([0, 1, 2, 3, 4, -1]))


def test_ignored_images_do_not_count_in_the_accuracy() -> None:
    model, batch = LinearModel().double(), Batch(views=(waves(6, 5, 1, 1),), index=torch.arange(6))
    best = model([batch.views[0]])[0].argmax(dim=1)
    label = torch.where(torch.arange(6) < 2, best, -1)
    labelled = Batch(views=batch.views, index=batch.index, label=label)
    assert CrossEntropyLoss().step(model, labelled).logs["top1"] == 1


def test_views_and_predictions_share_the_label() -> None:
    one = CrossEntropyLoss().of_output(X, Y)
    torch.testing.assert_close(CrossEntropyLoss().of_output(torch.cat([X, X]), Y), one)
    torch.testing.assert_close(CrossEntropyLoss().of_output(X[:, None].expand(-1, 3, -1), Y), one)


def test_an_ignored_batch_costs_nothing() -> None:
    assert CrossEntropyLoss().of_output(X, torch.full((6,), -1)) == 0


def test_bce_as_torch_computes_it() -> None:
    target = (waves(6, 4) > 0).long()
    want = F.binary_cross_entropy_with_logits(X, target.double(), reduction="none").mean(dim=0).sum()
    torch.testing.assert_close(BCELoss().of_output(X, target), want)
    unknown = target.clone()
    unknown[:, 1] = -1
    kept = [0, 2, 3]
    want = F.binary_cross_entropy_with_logits(X, target.double(), reduction="none").mean(dim=0)[kept].sum()
    torch.testing.assert_close(BCELoss().of_output(X, unknown), want)


def test_labels_are_needed() -> None:
    model, batch = LinearModel().double(), Batch(views=(waves(6, 5, 1, 1),), index=torch.arange(6))
    for loss in (CrossEntropyLoss(), BCELoss()):
        assert "the images to train on have none" in problems(loss, train_labelled=False)
        assert problems(loss, train_labelled=None) == ""
        with pytest.raises(ValueError, match="the batch has no labels"):
            loss.step(model, batch)
    with pytest.raises(ValueError, match="a row of targets for each image"):
        BCELoss().step(model, Batch(views=batch.views, index=batch.index, label=Y))


def test_outputs_that_are_too_narrow_are_refused() -> None:
    assert "the views make 4 classes; the outputs are (3,) wide" in problems(
        CrossEntropyLoss(), num_classes=4, output_dims=(3,)
    )
    wrong = problems(CrossEntropyLoss(class_weights=[1.0, 2.0]), output_dims=(3,))
    assert "class_weights: has 2 values; the outputs are (3,) wide" in wrong
