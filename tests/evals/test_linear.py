"""Linear classifiers side by side: scikit-learn's optimum, one process or several, chosen without the test images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchmetrics.functional.classification as oracle
from numpy.typing import NDArray
from ranks import run_on_ranks
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from ssltyped import distributed
from ssltyped.evals.linear import (
    Classifiers,
    LinearResult,
    Normalization,
    Samples,
    Setting,
    linear_accuracy,
)

CPU = torch.device("cpu")


def samples(rows: int, seed: int, classes: int = 7, width: int = 12) -> Samples:
    """Classes that overlap, in two features of which one says more; each has its own mean and scale."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (rows,), generator=generator)
    good = torch.eye(width)[labels] + 0.5 * torch.randn(rows, width, generator=generator)
    poor = torch.eye(width)[labels] + 1.0 * torch.randn(rows, width, generator=generator)
    stretch = torch.logspace(-1, 1, width)
    return Samples({"good": good * stretch + 3, "poor": poor}, labels)


def trained(train: Samples, name: str, settings: list[Setting], steps: int, rate: float = 1.0) -> Classifiers:
    """With whole batches, so that the optimum is reached."""
    x = train.rows[name][np.arange(len(train))]
    found = Classifiers(settings, 7, x.shape[1], Normalization.STANDARDIZE, 0.9, CPU)
    found.mean, found.std = x.mean(dim=0), x.std(dim=0, unbiased=False)
    for _ in range(steps):
        found.step(x, train.labels, len(x), rate)
    return found


@pytest.mark.parametrize("decay", [0.003, 0.1])
def test_it_converges_to_the_optimum_of_scikit_learn(decay: float) -> None:
    """mean CE + decay / 2 |W|^2 is C sum CE + 1/2 |W|^2 with C = 1 / (N decay)."""
    train = samples(200, 0)
    found = trained(train, "good", [Setting(0.3, decay), Setting(0.1, 0.5)], steps=2000)
    rows = train.rows["good"][np.arange(200)].double().numpy()
    x = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    best = LogisticRegression(C=1 / (200 * decay), tol=1e-10, max_iter=5000)  # type: ignore[no-untyped-call]
    best.fit(x, train.labels.numpy())
    np.testing.assert_allclose(found.weight[0].numpy(), best.coef_, atol=2e-4)
    centred = found.bias[0] - found.bias[0].mean()
    np.testing.assert_allclose(centred.numpy(), best.intercept_ - best.intercept_.mean(), atol=2e-4)


def test_classifiers_do_not_disturb_each_other() -> None:
    train = samples(64, 0)
    settings = [Setting(0.3, 0.0), Setting(0.01, 0.1), Setting(30.0, 0.0)]
    together = trained(train, "good", settings, steps=20)
    for number, setting in enumerate(settings):
        alone = trained(train, "good", [setting], steps=20)
        torch.testing.assert_close(together.weight[number], alone.weight[0], rtol=1e-4, atol=1e-6)


def test_batch_norm_is_that_of_torch() -> None:
    """The same steps by torch's BatchNorm1d, Linear, SGD; decay on the weights of the linear layer alone."""
    train, setting = samples(48, 0), Setting(0.1, 0.01)
    x = train.rows["good"][np.arange(48)]
    ours = Classifiers([setting, Setting(1.0, 0.0)], 7, 12, Normalization.BATCH_NORM, 0.9, CPU)
    norm, linear = nn.BatchNorm1d(12), nn.Linear(12, 7)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    others = [linear.bias, norm.weight, norm.bias]
    groups = [{"params": [linear.weight], "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    for start in (0, 16, 32) * 5:
        part, labels = x[start : start + 16], train.labels[start : start + 16]
        ours.step(part, labels, 16, 1.0)
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(linear(norm(part)), labels))
        optimizer.step()
    torch.testing.assert_close(ours.weight[0], linear.weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.evaluated(x)[:, 0], linear(norm.eval()(x)), rtol=1e-4, atol=1e-4)


SETTINGS = [Setting(1e-7, 0.0), Setting(0.1, 0.0), Setting(0.1, 0.01), Setting(1e9, 0.0)]
"""One that hardly learns, two that do, and one that diverges."""


def measured(normalization: Normalization = Normalization.STANDARDIZE) -> dict[str, LinearResult]:
    return linear_accuracy(
        samples(150, 0),
        samples(60, 1),
        samples(80, 2),
        num_classes=7,
        settings=SETTINGS,
        epochs=15,
        batch_size=32,
        normalization=normalization,
    )


@pytest.mark.parametrize("normalization", list(Normalization))
def test_the_best_on_the_held_out_images_counts(normalization: Normalization) -> None:
    found = measured(normalization)
    assert list(found) == ["good", "poor"]
    for result in found.values():
        assert result.setting in SETTINGS[1:3]
        assert result.held_out == max(result.sweep.values()) == result.sweep[result.setting]
        assert set(result.accuracy) == {"top1", "top5"}
    assert 100 / 7 < found["poor"].accuracy["top1"] < found["good"].accuracy["top1"] < 100


def test_accuracy_is_that_of_torchmetrics_by_a_classifier_of_its_own() -> None:
    """One setting, by torch's own layers: the same batches, rates and images."""
    train, test = samples(64, 0), samples(80, 2)
    result = linear_accuracy(
        train, samples(9, 1), test, num_classes=7, settings=[Setting(0.1, 0.0)], epochs=30, batch_size=64
    )["poor"]
    x = train.rows["poor"][np.arange(64)]
    mean, std = x.mean(dim=0), x.std(dim=0, unbiased=False)
    linear = nn.Linear(12, 7)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    optimizer = torch.optim.SGD(linear.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 30)
    for _ in range(30):
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(linear((x - mean) / std), train.labels))
        optimizer.step()
        schedule.step()
    scores = linear((test.rows["poor"][np.arange(80)] - mean) / std)
    for k in (1, 5):
        want = oracle.multiclass_accuracy(scores, test.labels, 7, average="micro", top_k=k)
        assert result.accuracy[f"top{k}"] == pytest.approx(100 * float(want))


class Counting:
    """Rows that note which of them were read."""

    def __init__(self, rows: Tensor) -> None:
        self.rows, self.read = rows, list[int]()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: NDArray[np.int64], /) -> Tensor:
        self.read += part.tolist()
        return self.rows[part]


def test_test_images_are_read_once_and_each() -> None:
    """So that nothing can be decided by them: one classifier of each feature is measured on them."""
    test = samples(80, 2)
    watched = {name: Counting(rows[np.arange(80)]) for name, rows in test.rows.items()}
    linear_accuracy(
        samples(150, 0), samples(60, 1), Samples(watched, test.labels), num_classes=7, settings=SETTINGS, epochs=1
    )
    assert all(sorted(one.read) == list(range(80)) for one in watched.values())


@pytest.mark.parametrize("normalization", list(Normalization))
def test_ranks_find_what_one_process_finds(normalization: Normalization) -> None:
    one = measured(normalization)
    for found in run_on_ranks(measured, 3, normalization):
        for name, result in found.items():
            assert (result.setting, result.accuracy) == (one[name].setting, one[name].accuracy)
            assert result.sweep == pytest.approx(one[name].sweep)


def weights_on_rank() -> Tensor:
    train = samples(50, 0)
    found = Classifiers([Setting(0.1, 0.01)], 7, 12, Normalization.BATCH_NORM, 0.9, CPU)
    for start in range(0, 50, 10):
        mine = np.array_split(np.arange(start, start + 10), distributed.world_size())[distributed.rank()]
        found.step(*train.read("good", mine, CPU), 10, 1.0)
    return found.weight


def test_ranks_learn_the_weights_of_one_process() -> None:
    alone = weights_on_rank()
    assert alone.abs().max() > 0.01
    for weight in run_on_ranks(weights_on_rank, 3):
        torch.testing.assert_close(weight, alone, rtol=1e-5, atol=1e-6)
