"""Index -> read -> decode -> views -> Batch."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Optional, Self

import numpy as np

from ssltyped.config import config_for
from ssltyped.data.classes import matched
from ssltyped.data.normalizing import Normalizer
from ssltyped.data.reading import DataError, Reader, ReadEval, ReadTrain, Reply, Request, Unreadable
from ssltyped.data.sampler import Sampler
from ssltyped.data.splits import EvalSplit, TrainSplit, lacks_images, reads_sample
from ssltyped.data.workers import Answers
from ssltyped.types import Batch, Component, Facts, Inference, Problem, Random, Subset

Report = Callable[[Sequence[Unreadable]], None]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

JUDGED_FROM = 200
"""Reads before the share of unreadable images means anything."""

NAMED = 10
"""Unreadable images that an error names."""


TRIED = 10
"""Images of a split that are tried before a run, one after the other until one can be read."""


def spread(count: int, most: int) -> list[int]:
    """At most so many of the numbers below `count`, equally far from each other, from 0 on."""
    return sorted({count * place // most for place in range(most)}) if count else []


def ignore(records: Sequence[Unreadable]) -> None:
    """Report nothing."""


class TrainPipeline(Iterator[Batch]):
    """The batches of one rank from a step on, for ever: `accumulation` batches an optimizer step.

    The same whatever the number of workers, and from any step on the same as if it had started at 0. Views are
    uint8. Close it, or use it in a `with`. Iterating raises `DataError` if too many images are unreadable.

    Args:
        split: what is read
        seed: of the order and of the views
        rank: which of the ranks this is
        world_size: ranks that share each step's images
        accumulation: batches a rank and step
        start_step: optimizer steps that have been done
        pin_memory: put the views in page-locked memory, for a GPU
        on_unreadable: gets what could not be read, with every batch that has some; again in every epoch
    """

    def __init__(
        self,
        *,
        split: TrainSplit,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        accumulation: int = 1,
        start_step: int = 0,
        pin_memory: bool = False,
        on_unreadable: Report = ignore,
    ) -> None:
        source = split.learned()
        sampler = Sampler(len(source), split.batch_size, seed, rank, world_size, accumulation)
        if sampler.steps_per_epoch == 0:
            raise ValueError(f"{len(source)} images are fewer than a global batch of {sampler.global_batch_size}")
        split.views.prepare()
        read = ReadTrain(source, split.views, sampler)
        requests = _requests(sampler, start_step)
        self._replies = Answers(read, requests, num_workers=split.num_workers, pin_memory=pin_memory)
        self._max_unreadable, self._on_unreadable = split.max_unreadable, on_unreadable
        self._first: list[Unreadable] = []
        self.num_reads, self.num_unreadable = 0, 0

    def __next__(self) -> Batch:
        reply = next(self._replies)
        self._count(reply)
        return reply.batch()

    def _count(self, reply: Reply) -> None:
        self.num_reads += len(reply.index) + len(reply.unreadable)
        self.num_unreadable += len(reply.unreadable)
        if not reply.unreadable:
            return
        self._first += reply.unreadable[: NAMED - len(self._first)]
        self._on_unreadable(reply.unreadable)
        if self.num_reads >= JUDGED_FROM and self.num_unreadable > self._max_unreadable * self.num_reads:
            self.close()
            raise DataError(self._complaint())

    def _complaint(self) -> str:
        share = self.num_unreadable / self.num_reads
        names = "".join(f"\n    {record.name}: {record.reason}" for record in self._first)
        return (
            f"{self.num_unreadable} of {self.num_reads} reads ({share:.1%}) failed, more than "
            f"max_unreadable={self._max_unreadable:.1%}; the first:{names}"
        )

    def close(self) -> None:
        """End the worker processes."""
        self._replies.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _reader(split: TrainSplit | EvalSplit) -> Reader:
    """What reads one image of a split, as for its batches."""
    if isinstance(split, EvalSplit):
        return ReadEval(split.images(), split.transforms).reader
    split.views.prepare()
    return ReadTrain(source := split.learned(), split.views, Sampler(len(source), 1, seed=0)).reader


def _requests(sampler: Sampler, start_step: int) -> Iterator[Request]:
    for step in itertools.count(start_step):
        for micro in range(sampler.accumulation):
            yield Request(sampler.epoch(step), sampler.positions(step, micro))


def iterate(
    split: EvalSplit,
    *,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
    on_unreadable: Report = ignore,
) -> Iterator[Batch]:
    """This rank's share of all images, once: images rank, rank + world_size, ... in order.

    Ranks may get different numbers of images, and of batches. Close the iterator if it is left early.
    """
    source = split.images()
    mine = range(rank, len(source), world_size)
    parts = (np.array(mine[i : i + split.batch_size]) for i in range(0, len(mine), split.batch_size))
    read = ReadEval(source, split.transforms)
    requests = (Request(0, part) for part in parts)
    replies = Answers(read, requests, num_workers=split.num_workers, pin_memory=pin_memory)
    try:
        for reply in replies:
            if reply.unreadable:
                on_unreadable(reply.unreadable)
            if len(reply.index):
                yield reply.batch()
    finally:
        replies.close()


def nothing_to_read(subset: Subset) -> DataError:
    """The error of an evaluation that no rank has an image for."""
    return DataError(f"none of the images of data.{subset.value} can be read: see unreadable_rank*.jsonl of the run")


class Data(Component):
    """What is trained and evaluated on, and the mean and deviation of its channels.

        normalize(x)[b, c, h, w] = (x[b, c, h, w] / 255 - mean[c]) / std[c]

    The defaults are those of ImageNet's training images, as torchvision states them.

    Args:
        train: the images to train on
        val: the images to evaluate on; null: nothing is evaluated
        mean: of each channel, with pixels in [0, 1]; as many as the images have channels
        std: standard deviation of each channel, likewise
    """

    def __init__(
        self,
        *,
        train: TrainSplit,
        val: Optional[EvalSplit] = None,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        self.train, self.val, self.mean, self.std = train, val, mean, std

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        train, val = config.train, config.val
        if val is not None and val.path is None and reads_sample(train):
            rule = "data.train reads those that come with the recipe, and these go with them"
            yield Inference("val.source", val.sample, rule, default=True)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if len(config.mean) != len(config.std):
            yield Problem("std", f"has {len(config.std)} values, mean has {len(config.mean)}: one a channel")
        if any(value <= 0 for value in config.std):
            yield Problem("std", f"is {tuple(config.std)}; it must be above 0")

    @classmethod
    def warnings(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        for name, values, highest in (("mean", config.mean, 1.0), ("std", config.std, 0.5)):
            if any(not 0 <= value <= highest for value in values):
                message = f"is {tuple(values)}, and that of values in [0, 1], as these are, lies in [0, {highest:g}]"
                yield Problem(name, f"{message}: divide what is meant for [0, 255] by 255")

    def remarks(self) -> Iterator[str]:
        """What there is to say of the images that are here."""
        for name, split in (("train", self.train), ("val", self.val)):
            if split is not None and split.source is not None:
                yield from (f"data.{name}: {remark}" for remark in split.source.remarks)

    def trial(self) -> Iterator[Problem]:
        """What is wrong with an image of each split on its way to the model, or that none of `TRIED` can be read."""
        for path, split in (("data.train", self.train), ("data.val", self.val)):
            try:
                if split is not None and not lacks_images(split):
                    self._try(split)
            except ValueError as error:
                yield Problem(path, ", ".join([str(error), *getattr(error, "__notes__", [])]))

    def _try(self, split: TrainSplit | EvalSplit) -> None:
        reader, broken = _reader(split), list[Unreadable]()
        for index in spread(len(split.images()), TRIED):
            reply = reader.readable(0, [index])
            if len(reply.index):
                self.normalize(reply.batch())
                return
            broken += reply.unreadable
        if broken:
            tried = f"none of {len(broken)} images that were tried can be read" if broken[1:] else "it cannot be read"
            raise ValueError(f"{tried}: {broken[0].name}: {broken[0].reason}")

    def normalize(self, batch: Batch) -> Batch:
        """The batch with its views as float32 with mean 0 and deviation 1, on its device."""
        return dataclasses.replace(batch, views=tuple(self._normalize(view) for view in batch.views))

    @functools.cached_property
    def _normalize(self) -> Normalizer:
        return Normalizer(self.mean, self.std)

    def prepare(self, batch: Batch, random: Random) -> Batch:
        """A batch of training as the method sees it: normalized, then collated."""
        return self.train.collated(self.normalize(batch), random)

    def evaluate(
        self,
        subset: Subset,
        rank: int = 0,
        world_size: int = 1,
        *,
        pin_memory: bool = False,
        on_unreadable: Report = ignore,
    ) -> Iterator[Batch]:
        """This rank's share of all images of a subset, once, read as `val` says: transforms, batches, workers."""
        if self.val is None:
            raise ValueError("data.val is not given: it says how images are read for an evaluation")
        train = self.train.images()
        split = EvalSplit(
            transforms=self.val.transforms,
            batch_size=self.val.batch_size,
            source=train if subset is Subset.TRAIN else matched(self.val.images(), train),
            num_workers=self.val.num_workers,
        )
        return iterate(split, rank=rank, world_size=world_size, pin_memory=pin_memory, on_unreadable=on_unreadable)


DataConf = config_for(Data)
