"""What is read for training and for evaluation, as a recipe says it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Optional, Self

from annotated_types import Ge, Gt, Le

from ssltyped.config import config_for
from ssltyped.data.detect import detect
from ssltyped.data.relabelled import RelabelledSource
from ssltyped.types import (
    Batch,
    Collator,
    Component,
    Facts,
    Inference,
    Problem,
    Random,
    Source,
    Transform,
    ViewMaker,
    check_batch,
)


def is_there(path: Path) -> bool:
    """Whether there is a file or folder; a name that no file can have is not there."""
    try:
        return path.exists()
    except OSError:
        return False


class Split(Component):
    """Images from a path or a source: what training and evaluation have in common."""

    path: Optional[Path]
    source: Optional[Source]
    sample: Optional[Source]
    num_images: Optional[int]

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        if config.path is not None and is_there(config.path):
            try:
                source, reason = detect(config.path)
            except ValueError:
                return  # problems() says what is wrong
            yield Inference("source", source, f"{config.path}: {reason}")

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if config.source is not None:
            if config.path is not None and getattr(config.source, "path", None) != config.path:
                yield Problem("path", f"{config.path} and a source are both given: write source=null to go by the path")
            return
        if config.path is None:
            if config.sample is None:
                yield Problem("path", "give the path of the images, or a source")
        elif is_there(config.path) or config.num_images is None:
            try:
                detect(config.path)
            except ValueError as error:
                yield Problem("path", str(error))

    def images(self) -> Source:
        """The source. Raises ValueError if there is none (the path was not there), or if it has not `num_images`."""
        if self.source is None:
            raise ValueError(
                f"no images: {self.path} does not exist" if self.path else "no images: give path or source"
            )
        if self.num_images is not None and self.num_images != len(self.source):
            raise ValueError(f"num_images is {self.num_images}, but there are {len(self.source)} images: leave it out")
        return self.source


def lacks_images(split: Split) -> bool:
    """Whether it is complete without images: a recipe's own would be read here, if it trained on its own."""
    return split.sample is not None and split.path is None and split.source is None


def reads_sample(split: Split) -> Optional[bool]:
    """Whether the images are those that come with the recipe; None while that is not resolved."""
    if split.sample is None or split.path is not None:
        return False
    return None if split.source is None else split.source == split.sample


class TrainSplit(Split):
    """The images to train on, and how they become batches of views.

    An image that cannot be read is reported, and replaced by another one that is in no place of the same global batch
    (while there are enough). If more than `max_unreadable` of the reads fail (judged from 200 reads on), training ends
    with `DataError`.

    Args:
        views: image to views
        batch_size: B, images a rank and batch
        path: a folder of class folders, a folder of images, or a list file; give this or source
        source: the images; null: what the path is seen to hold
        sample: images that come with the recipe, to try it: they are read while neither path nor source is given
        labels: pseudo-labels to learn in the place of the source's own, which evaluations go by: a file with one an
            image, such as the clusters of `ClusterLabels`
        num_workers: processes that read and augment; 0: this process does
        num_images: how many there are, for planning where the data is not; must be right where it is
        max_unreadable: largest share of reads that may fail
        collators: what is done to each normalized batch on its device, in this order
    """

    def __init__(
        self,
        *,
        views: ViewMaker,
        batch_size: Annotated[int, Gt(0)],
        path: Optional[Path] = None,
        source: Optional[Source] = None,
        sample: Optional[Source] = None,
        labels: Optional[Path] = None,
        num_workers: Annotated[int, Ge(0)] = 2,
        num_images: Optional[Annotated[int, Gt(0)]] = None,
        max_unreadable: Annotated[float, Ge(0), Le(1)] = 0.1,
        collators: list[Collator] = [],  # noqa: B006  # never changed; a config shows it as a list
    ) -> None:
        self.views, self.batch_size, self.path, self.source, self.sample = views, batch_size, path, source, sample
        self.labels, self.num_workers, self.num_images = labels, num_workers, num_images
        self.max_unreadable, self.collators = max_unreadable, collators

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        yield from super().infer(config, facts)
        if config.path is None and config.sample is not None:
            yield Inference("source", config.sample, "no path is given: images that come with the recipe", default=True)
        if config.num_images is None and config.source is not None and facts.num_images is not None:
            yield Inference("num_images", facts.num_images, "counted; the order of the images depends on it")

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().problems(config, facts)
        if config.labels is not None and not is_there(config.labels):
            yield Problem("labels", f"{config.labels} does not exist: give the .npy that ClusterLabels saved")

    def learned(self) -> Source:
        """The images with the labels that are learned. Raises ValueError as `images`."""
        source = self.images()
        return source if self.labels is None else RelabelledSource(source=source, labels=self.labels)

    def collated(self, batch: Batch, random: Random) -> Batch:
        """A normalized batch after the collators. Raises ValueError for one that gives no batch."""
        for collator in self.collators:
            batch = collator(batch, random)
            check_batch(batch, type(collator).__name__)
        return batch


class EvalSplit(Split):
    """Images to evaluate on: each once, in order, one view each; unreadable ones are left out and reported.

    Args:
        transforms: image to the one view, all of one size in the end: Resize, then CenterCrop; nothing random
        batch_size: B, images a rank and batch; the last one has what is left
        path: a folder of class folders, a folder of images, or a list file; give this or source
        source: the images; null: what the path is seen to hold
        sample: images that come with the recipe, evaluated on while `data.train` reads its sample; where that has other
            images and none are given here, this says how those are read, and there is nothing to evaluate on
        num_workers: processes that read; 0: this process does
        num_images: how many there are, for planning where the data is not; must be right where it is
    """

    def __init__(
        self,
        *,
        transforms: list[Transform],
        batch_size: Annotated[int, Gt(0)] = 256,
        path: Optional[Path] = None,
        source: Optional[Source] = None,
        sample: Optional[Source] = None,
        num_workers: Annotated[int, Ge(0)] = 2,
        num_images: Optional[Annotated[int, Gt(0)]] = None,
    ) -> None:
        self.transforms, self.batch_size, self.path, self.source = transforms, batch_size, path, source
        self.sample, self.num_workers, self.num_images = sample, num_workers, num_images


TrainSplitConf = config_for(TrainSplit)
EvalSplitConf = config_for(EvalSplit)
