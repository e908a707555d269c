"""Linear classification of frozen features: many classifiers at once, of which the best on held-out images counts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn import functional as F

from ssltyped import distributed
from ssltyped.data.sampler import permute
from ssltyped.meters.hits import hits
from ssltyped.meters.topk import TopKAccuracy

BLOCK = 4096
"""Rows that are read at once where nothing is learned."""

BN_MOMENTUM, BN_EPS = 0.1, 1e-5
FLOOR = 1e-8
"""A feature that varies less than this share of the others' deviation is not blown up."""


@runtime_checkable
class IndexedRows(Protocol):
    """Rows of features of which any can be read: a tensor, or what lies on a disk (`evals.features.ChosenRows`)."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: Int64[np.ndarray, "m"], /) -> Tensor: ...


class Normalization(Enum):
    """What is done to features first: mean 0 and deviation 1 over the training images; or BatchNorm, as VISSL does.

    `BATCH_NORM`: by the mean and variance of each batch (of all ranks) in training, by their running mean (momentum
    0.1) afterwards, then a learned scale and shift, that no decay acts on.
    """

    STANDARDIZE = "standardize"
    BATCH_NORM = "batch_norm"


class Setting(NamedTuple):
    """Of one classifier."""

    lr: float
    weight_decay: float


@dataclasses.dataclass(frozen=True)
class Samples:
    """Features of the same images, by name, and their classes."""

    rows: Mapping[str, IndexedRows]
    labels: Int64[Tensor, "N"]

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, name: str, places: Int64[np.ndarray, "m"], device: torch.device) -> tuple[Tensor, Tensor]:
        return self.rows[name][places].to(device, torch.float32), self.labels[places].to(device)


@dataclasses.dataclass(frozen=True)
class LinearResult:
    """The classifier of a feature that was best on the held-out images.

    Args:
        setting: its learning rate and decay.
        held_out: its accuracy there, in percent: the highest of all, and so too high.
        accuracy: on the test images: top1, and top5 of more than five classes, in percent.
        sweep: the accuracy on the held-out images of every setting.
    """

    setting: Setting
    held_out: float
    accuracy: Mapping[str, float]
    sweep: Mapping[Setting, float]


class Classifiers:
    """S linear classifiers of one feature, W_s z + b_s, that are trained side by side from 0.

    Each minimizes its own mean cross-entropy + weight_decay / 2 |W_s|^2 by SGD: no gradient goes from one to another.

    Args:
        settings: S of them.
        num_classes: K.
        width: D.
        normalization: x to z.
        momentum: of SGD.
        device: where they are.
    """

    def __init__(
        self,
        settings: Sequence[Setting],
        num_classes: int,
        width: int,
        normalization: Normalization,
        momentum: float,
        device: torch.device,
    ) -> None:
        self._normalization, self._momentum, count = normalization, momentum, len(settings)
        self.weight = torch.zeros(count, num_classes, width, device=device)
        self.bias = torch.zeros(count, num_classes, device=device)
        self.mean, self.std = torch.zeros(width, device=device), torch.ones(width, device=device)
        self._learned = [self.weight, self.bias]
        if normalization is Normalization.BATCH_NORM:
            self.scale = torch.ones(count, width, device=device)
            self.shift = torch.zeros(count, width, device=device)
            self._learned += [self.scale, self.shift]
            self.std = self.std * math.sqrt(1 + BN_EPS)
        self._moved = [torch.zeros_like(one) for one in self._learned]
        self._lr = torch.tensor([setting.lr for setting in settings], device=device)
        self._decay = torch.tensor([setting.weight_decay for setting in settings], device=device)

    def scores(self, z: Float[Tensor, "B D"]) -> Float[Tensor, "B S K"]:
        weight, bias = self.weight, self.bias
        if self._normalization is Normalization.BATCH_NORM:
            bias = bias + (weight @ self.shift[:, :, None])[:, :, 0]
            weight = weight * self.scale[:, None, :]
        count, classes, width = weight.shape
        return (z @ weight.reshape(count * classes, width).T).reshape(len(z), count, classes) + bias

    def evaluated(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B S K"]:
        """The scores of images that nothing is learned from."""
        return self.scores((x - self.mean) / self.std)

    def step(self, x: Float[Tensor, "b D"], labels: Int64[Tensor, "b"], batch: int, rate: float) -> None:
        """One step by this rank's share of a batch of so many images (collective); `rate` multiplies all rates."""
        z = self._seen(x, batch)
        for one in self._learned:
            one.requires_grad_(True)
        scores = self.scores(z)
        loss = F.cross_entropy(scores.flatten(0, 1), labels.repeat_interleave(len(self._lr)), reduction="sum") / batch
        gradients = torch.autograd.grad(loss, self._learned)
        with torch.no_grad():
            for one, moved, gradient in zip(self._learned, self._moved, gradients, strict=True):
                one.requires_grad_(False)
                per_setting = (-1, *[1] * (one.ndim - 1))
                total = distributed.all_reduce_sum(gradient)
                if one is self.weight:
                    total = total + self._decay.reshape(per_setting) * one
                moved.mul_(self._momentum).add_(total)
                one.sub_(rate * self._lr.reshape(per_setting) * moved)

    def _seen(self, x: Float[Tensor, "b D"], batch: int) -> Float[Tensor, "b D"]:
        if self._normalization is Normalization.STANDARDIZE:
            return (x - self.mean) / self.std
        mean = distributed.all_reduce_sum(x.sum(dim=0)) / batch
        variance = distributed.all_reduce_sum((x - mean).square().sum(dim=0)) / batch
        # As torch's BatchNorm: the running variance is the unbiased one.
        self.mean.lerp_(mean, BN_MOMENTUM)
        running = (self.std.square() - BN_EPS).lerp(variance * batch / max(1, batch - 1), BN_MOMENTUM)
        self.std = (running + BN_EPS).sqrt()
        return (x - mean) / (variance + BN_EPS).sqrt()


def linear_accuracy(
    train: Samples,
    held_out: Samples,
    test: Samples,
    *,
    num_classes: int,
    settings: Sequence[Setting],
    epochs: int = 100,
    batch_size: int = 256,
    momentum: float = 0.9,
    normalization: Normalization = Normalization.STANDARDIZE,
    seed: int = 0,
    device: torch.device = torch.device("cpu"),
) -> dict[str, LinearResult]:
    """The accuracy of linear classifiers of each feature on test images (collective).

    For every feature and setting a classifier is trained on `train`, all in the same passes over the data; that which
    is best on `held_out` is measured on `test`, which nothing else is decided by. Every rank has all rows at hand and
    reads its share of each batch: W ranks give what one process does, to rounding.

    Args:
        train: what is learned from.
        held_out: what decides which setting counts.
        test: what is measured.
        num_classes: K.
        settings: learning rates, for this batch_size, and decays.
        epochs: passes over the training images; the rate falls along a half cosine to 0.
        batch_size: images a step, of all ranks together; all of them if they are fewer.
        momentum: of SGD.
        normalization: of the features.
        seed: of the order of the images.
        device: where the classifiers are trained.
    """
    found = {}
    batch = min(batch_size, len(train))
    steps = len(train) // batch
    classifiers = {
        name: _begun(train, name, settings, num_classes, normalization, momentum, device) for name in train.rows
    }
    for step in range(epochs * steps):
        epoch, first = step // steps, step % steps * batch
        places = permute(np.arange(first, first + batch), len(train), seed, epoch)
        mine = np.array_split(places, distributed.world_size())[distributed.rank()]
        rate = 0.5 * (1 + math.cos(math.pi * step / (epochs * steps)))
        for name, one in classifiers.items():
            one.step(*train.read(name, mine, device), batch, rate)
    for name, one in classifiers.items():
        shares = _right(held_out, name, one, device) * (100 / len(held_out))
        sweep = dict(zip(settings, shares.tolist(), strict=True))
        best = max(range(len(settings)), key=lambda number: shares[number].item())
        accuracy = _top(test, name, one, best, num_classes, device)
        found[name] = LinearResult(settings[best], sweep[settings[best]], accuracy, sweep)
    return found


def _begun(
    train: Samples,
    name: str,
    settings: Sequence[Setting],
    num_classes: int,
    normalization: Normalization,
    momentum: float,
    device: torch.device,
) -> Classifiers:
    width = train.rows[name][np.arange(1)].shape[1]
    found = Classifiers(settings, num_classes, width, normalization, momentum, device)
    if normalization is Normalization.STANDARDIZE:
        mean = _mean(train, name, torch.zeros(width, dtype=torch.float64), 1)
        std = _mean(train, name, mean, 2).sqrt()
        floor = FLOOR * float(std.mean())
        found.mean, found.std = mean.float().to(device), torch.where(std > floor, std, 1.0).float().to(device)
    return found


def _mean(samples: Samples, name: str, centre: Float64[Tensor, "D"], power: int) -> Float64[Tensor, "D"]:
    """The mean over all rows of (x - centre)^power, over the ranks."""
    total = torch.zeros_like(centre)
    for places in _of_rank(samples):
        total += (samples.rows[name][places].double() - centre).pow(power).sum(dim=0)
    return distributed.all_reduce_sum(total) / len(samples)


def _of_rank(samples: Samples) -> list[Int64[np.ndarray, "m"]]:
    """This rank's share of the rows, in blocks."""
    mine = np.array_split(np.arange(len(samples)), distributed.world_size())[distributed.rank()]
    return np.array_split(mine, -(-len(mine) // BLOCK)) if len(mine) else []


@torch.no_grad()
def _right(samples: Samples, name: str, classifiers: Classifiers, device: torch.device) -> Float64[Tensor, "S"]:
    """How many images each classifier is right about."""
    count = torch.zeros(len(classifiers.weight), dtype=torch.float64)
    for places in _of_rank(samples):
        x, labels = samples.read(name, places, device)
        scores = classifiers.evaluated(x)
        count += torch.stack([hits(one, labels, 1).sum() for one in scores.unbind(dim=1)]).cpu()
    return distributed.all_reduce_sum(count)


@torch.no_grad()
def _top(
    samples: Samples, name: str, classifiers: Classifiers, number: int, num_classes: int, device: torch.device
) -> Mapping[str, float]:
    meter = TopKAccuracy(topk=[1, 5] if num_classes > 5 else [1])
    for places in _of_rank(samples):
        x, labels = samples.read(name, places, device)
        meter.update(classifiers.evaluated(x)[:, number], labels)
    return meter.compute()
