"""From the numbers of a batch to its images: what a worker process does."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Optional, Self

import numpy as np
import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from ssltyped.data.replacing import Spares
from ssltyped.data.sampler import Sampler, random_of
from ssltyped.transforms.views import applied
from ssltyped.types import (
    Batch,
    Image,
    Label,
    Promise,
    Random,
    RunStoppedError,
    Source,
    Transform,
    UnreadableImageError,
    ViewMaker,
    Views,
    check_image,
    image_of,
    labels_of,
)


class DataError(RunStoppedError):
    """The data cannot be read as it must be: too many broken images, or a worker process that died."""


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """An image that could not be read.

    Args:
        index: its number in the source
        name: its path
        reason: why it cannot be read
        repeated: there was no image left for its place in the batch, so that another one is there twice
    """

    index: int
    name: str
    reason: str
    repeated: bool = False


@dataclasses.dataclass(frozen=True)
class Request:
    """A batch to be read: the images at these positions of an epoch."""

    epoch: int
    positions: Int64[np.ndarray, "B"]


@dataclasses.dataclass(frozen=True)
class Reply:
    """A batch as it comes from a worker; numbers are arrays, because every tensor would hold a file open.

    Args:
        views: the images of each view
        index: which image of the source each is
        label: the classes, if there are any
        masks: of each view, if any view has one
        unreadable: what could not be read on the way
    """

    views: tuple[UInt8[Tensor, "B C _ _"], ...]
    index: Int64[np.ndarray, "B"]
    label: Optional[Int64[np.ndarray, "B ..."]]
    masks: tuple[Optional[Bool[np.ndarray, "B _ _"]], ...]
    unreadable: tuple[Unreadable, ...]

    def batch(self) -> Batch:
        label = None if self.label is None else torch.from_numpy(self.label)
        masks = tuple(None if mask is None else torch.from_numpy(mask) for mask in self.masks)
        return Batch(views=self.views, index=torch.from_numpy(self.index), label=label, masks=masks)

    def pin_memory(self) -> Self:
        """The same in page-locked memory, from which copies to a GPU need not wait (for torch)."""
        return dataclasses.replace(
            self,
            views=tuple(view.pin_memory() for view in self.views),
            index=_pinned(self.index),
            label=None if self.label is None else _pinned(self.label),
            masks=tuple(None if mask is None else _pinned(mask) for mask in self.masks),
        )


def _pinned(array: np.ndarray) -> np.ndarray:
    """A copy in page-locked memory, which the array keeps."""
    return torch.from_numpy(array).pin_memory().numpy()


def stack(images: Sequence[UInt8[Tensor, "C _ _"]], view: int) -> UInt8[Tensor, "B C H W"]:
    """Images of one size as a batch; its memory is B H W C, a plain copy of theirs."""
    if len({image.shape for image in images}) > 1:
        shapes = sorted({tuple(image.shape) for image in images})
        raise ValueError(f"view {view} has images of different sizes, {shapes[0]} and {shapes[-1]}: end with a crop")
    return torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)


class Reader:
    """Reads an image of a source and makes its views; notes what it could not read."""

    def __init__(self, source: Source, views: Callable[[Image, Callable[[int], Random]], Views], seed: int) -> None:
        self._source, self._views, self._seed = source, views, seed
        if source.labelled:
            source.label(0)  # what it loads is then loaded once, before the workers get it

    def read(self, epoch: int, index: int, failed: list[Unreadable]) -> Optional[Views]:
        """The views; None if the image cannot be read, which is then added to `failed`."""
        try:
            image = self._source.read(index)
        except UnreadableImageError as error:
            failed.append(Unreadable(index, self._source.name(index), str(error)))
            return None
        check_image(image, image_of(self._source, index))
        try:
            return self._views(image, functools.partial(random_of, self._seed, epoch, index))
        except Exception as error:
            error.add_note(f"while making the views of {self._source.name(index)}, {tuple(image.shape)}")
            raise

    def readable(self, epoch: int, images: Sequence[int]) -> Reply:
        """Those of these images that can be read, in order."""
        failed: list[Unreadable] = []
        read = {index: views for index in images if (views := self.read(epoch, index, failed)) is not None}
        return self.reply(list(read.values()), list(read), failed)

    def reply(self, views: Sequence[Views], index: Sequence[int], failed: Sequence[Unreadable]) -> Reply:
        label: list[Label] = [one.label for one in views if one.label is not None]
        if not label and self._source.labelled:
            label = list(labels_of(self._source, index))
        images = [one.images for one in views]
        return Reply(
            views=tuple(stack(same, view) for view, same in enumerate(zip(*images, strict=True))),
            index=np.array(index, dtype=np.int64),
            label=np.array(label, dtype=np.int64) if label else None,
            masks=tuple(_masks(views)),
            unreadable=tuple(failed),
        )


def _masks(views: Sequence[Views]) -> Iterator[Optional[Bool[np.ndarray, "B _ _"]]]:
    """The masks of each view, stacked: all images have one there, or none."""
    for masks in zip(*(one.masks for one in views), strict=True):
        known = [mask for mask in masks if mask is not None]
        yield np.stack(known) if known else None


class ReadTrain(Dataset[Reply]):
    """Batches of full size: an unreadable image is replaced by another (`Sampler.replacements`, `Spares`).

    A pure function of the request. No image is twice in a global batch while there are enough, and none three times:
    then it raises `DataError`.
    """

    def __init__(self, source: Source, views: ViewMaker, sampler: Sampler) -> None:
        self._maker, self._promise = views, Promise.of(views)
        self._sampler, self._spares = sampler, Spares(source, sampler)
        self.reader = Reader(source, self._views, sampler.seed)

    def _views(self, image: Image, random: Callable[[int], Random]) -> Views:
        made = self._maker(image, random)
        self._promise.check(made, type(self._maker).__name__)
        return made

    def __getitem__(self, request: Request) -> Reply:
        failed: list[Unreadable] = []
        read: list[tuple[int, Views]] = []
        images = self._sampler.images(request.epoch, request.positions)
        for position, index in zip(request.positions.tolist(), images.tolist(), strict=True):
            read.append(self._read_one(request.epoch, position, index, failed))
        return self.reader.reply([views for _, views in read], [index for index, _ in read], failed)

    def _read_one(self, epoch: int, position: int, index: int, failed: list[Unreadable]) -> tuple[int, Views]:
        views = self.reader.read(epoch, index, failed)
        others = self._sampler.replacements(position)
        while views is None and (other := next(others, None)) is not None:
            index = int(self._sampler.images(epoch, np.array([other]))[0])
            views = self.reader.read(epoch, index, failed)
        return (index, views) if views is not None else self._read_spare(epoch, position, failed)

    def _read_spare(self, epoch: int, position: int, failed: list[Unreadable]) -> tuple[int, Views]:
        spare = self._spares.of(epoch, position)
        if spare is not None and (views := self.reader.read(epoch, spare.image, failed)) is not None:
            if spare.repeated:
                reason = (
                    f"{failed[-1].reason}; no image is left for its place, so that another of the batch is there twice"
                )
                failed[-1] = dataclasses.replace(failed[-1], reason=reason, repeated=True)
            return spare.image, views
        last, slot = failed[-1], position % self._sampler.global_batch_size
        raise DataError(f"no image for place {slot} of the batch can be read: {last.name} ({last.reason})")


class ReadEval(Dataset[Reply]):
    """The readable images of a request, in order, each with one view by transforms that draw nothing random."""

    def __init__(self, source: Source, transforms: Sequence[Transform]) -> None:
        self._transforms = transforms
        self.reader = Reader(source, self._view, 0)

    def _view(self, image: Image, random: Callable[[int], Random]) -> Views:
        return Views([applied(self._transforms, image, random(0))])

    def __getitem__(self, request: Request) -> Reply:
        return self.reader.readable(request.epoch, request.positions.tolist())
