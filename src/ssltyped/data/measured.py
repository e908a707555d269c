"""The images that a trunk is measured on, as a recipe says it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Optional, Self, Union

from annotated_types import Ge, Gt, Lt

from ssltyped.config import INFERRED, config_for
from ssltyped.data.classes import matched
from ssltyped.data.concat import ConcatSourceConf
from ssltyped.data.detect import detect
from ssltyped.types import Component, Facts, Inference, Problem, Source, Transform

Paths = Union[Path, list[Path]]
"""A folder of class folders, a folder of images, a list file; or several of them, which are one set."""


def detected(paths: Paths) -> tuple[object, str]:
    """The config of the source at a path, or at several, and how that was seen. Raises ValueError as `detect`."""
    if not isinstance(paths, list):
        source, reason = detect(paths)
        return source, f"{paths}: {reason}"
    found = [detect(path) for path in paths]
    reasons = "; ".join(f"{path}: {reason}" for path, (_, reason) in zip(paths, found, strict=True))
    return ConcatSourceConf(sources=[source for source, _ in found]), reasons  # type: ignore[misc]  # configs of sources


def _given(name: str, paths: Optional[Paths]) -> Iterable[Inference]:
    """The source that follows from a path; nothing of one that is not there: `_missing` says so."""
    if paths:
        try:
            source, reason = detected(paths)
        except ValueError:
            return
        yield Inference(name, source, reason)


def _missing(name: str, paths: Optional[Paths]) -> Iterable[Problem]:
    if paths:
        try:
            detected(paths)
        except ValueError as error:
            yield Problem(name, str(error))


class ImageSet(Component):
    """Images that are read each once, without anything random.

    Args:
        path: a folder of class folders, a folder of images, a list file, or a list of these; give this or source.
        source: the images; null: what the path is seen to hold.
        transforms: image to the one view that is read; null: its shorter side at the size that the weights are for,
            and the central square. 256 and a crop of 224 (`data.transforms.0.size=256`) is usual for photographs.
        mean: of each channel, with pixels in [0, 1]; null: that which the weights are for.
        std: standard deviation of each channel, likewise.
        batch_size: images a rank that go through the trunk at once.
        num_workers: processes that read; 0: this one does.
    """

    def __init__(
        self,
        *,
        path: Optional[Paths] = None,
        source: Optional[Source] = None,
        transforms: list[Transform] = INFERRED,
        mean: tuple[float, ...] = INFERRED,
        std: tuple[float, ...] = INFERRED,
        batch_size: Annotated[int, Gt(0)] = 256,
        num_workers: Annotated[int, Ge(0)] = 2,
    ) -> None:
        self.path, self.source, self.transforms, self.mean, self.std = path, source, transforms, mean, std
        self.batch_size, self.num_workers = batch_size, num_workers

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        yield from _given("source", config.path)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from _missing("path", config.path)
        if not config.path and config.source is None:
            yield Problem("path", "give the path of the images, or a source")
        for name in ("mean", "std"):
            if facts.num_channels not in (None, count := len(getattr(config, name) or ())):
                yield Problem(name, f"has {count} values, and the weights are for {facts.num_channels} channels")
        if any(value <= 0 for value in config.std or ()):
            yield Problem("std", f"is {tuple(config.std)}; it must be above 0")

    def images(self) -> Source:
        assert self.source is not None, "problems() has refused it"
        return self.source


class TrainTestSet(ImageSet):
    """Labelled images to learn from, and others to test on; their classes are matched by name.

    Args:
        test_path: the images to test on, as path; null: a share of those at path.
        test_source: the same as a source.
        test_share: without images to test on, this share of each class is held out, chosen by a hash of the names (the
            last folder and the file): the same images on every machine.
    """

    def __init__(
        self,
        *,
        path: Optional[Paths] = None,
        source: Optional[Source] = None,
        test_path: Optional[Paths] = None,
        test_source: Optional[Source] = None,
        test_share: Annotated[float, Gt(0), Lt(1)] = 0.2,
        transforms: list[Transform] = INFERRED,
        mean: tuple[float, ...] = INFERRED,
        std: tuple[float, ...] = INFERRED,
        batch_size: Annotated[int, Gt(0)] = 256,
        num_workers: Annotated[int, Ge(0)] = 2,
    ) -> None:
        super().__init__(
            path=path,
            source=source,
            transforms=transforms,
            mean=mean,
            std=std,
            batch_size=batch_size,
            num_workers=num_workers,
        )
        self.test_path, self.test_source, self.test_share = test_path, test_source, test_share

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        yield from super().infer(config, facts)
        yield from _given("test_source", config.test_path)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().problems(config, facts)
        yield from _missing("test_path", config.test_path)
        if facts.labelled is False:
            yield Problem("source", f"needs labels, and there are none{facts.why_unlabelled}: give labelled images")
        if facts.label_rows:
            yield Problem("source", "needs one class an image, and the labels are rows of them")
        if facts.unmatched:
            yield Problem("test_source", facts.unmatched)

    def test_images(self) -> Optional[Source]:
        """Those to test on, with the labels that their classes have among the others; None: a share of these."""
        return None if self.test_source is None else matched(self.test_source, self.images())


ImageSetConf = config_for(ImageSet)
TrainTestSetConf = config_for(TrainTestSet)
