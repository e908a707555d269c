"""Several sets of images as one."""

import bisect
import functools
import itertools
from collections.abc import Sequence
from typing import Annotated

from annotated_types import Len

from ssltyped.config import config_for
from ssltyped.config.hints import listed
from ssltyped.data.classes import Renumbered
from ssltyped.types import Image, Label, Source, labels_of


class ConcatSource(Source):
    """The images of several sources, one after the other; classes of the same name are the same class.

    Where the classes have names, those of the whole are all of them, sorted. Where they are numbers without a name, a
    number means the same class in each. The whole is labelled if all of them are. Raises ValueError on first use if
    some have names of classes and others have not.

    Args:
        sources: the sets of images.
    """

    def __init__(self, *, sources: Annotated[list[Source], Len(1)]) -> None:
        self.sources = sources

    @functools.cached_property
    def _starts(self) -> list[int]:
        return list(itertools.accumulate(map(len, self.sources), initial=0))

    @functools.cached_property
    def _matched(self) -> list[Source]:
        """Each with its labels in the classes of the whole."""
        names = self.classes
        numbers = {name: number for number, name in enumerate(names)}
        return [
            Renumbered(source=one, numbers=[numbers[name] for name in one.classes], classes=names) if names else one
            for one in self.sources
        ]

    def _place(self, index: int) -> tuple[int, int]:
        """Which source, and which of its images."""
        number = bisect.bisect_right(self._starts, index) - 1
        return number, index - self._starts[number]

    def __len__(self) -> int:
        return self._starts[-1]

    def read(self, index: int) -> Image:
        number, own = self._place(index)
        return self.sources[number].read(own)

    def name(self, index: int) -> str:
        number, own = self._place(index)
        return self.sources[number].name(own)

    @property
    def labelled(self) -> bool:
        return all(one.labelled for one in self.sources)

    @functools.cached_property
    def _classes(self) -> tuple[str, ...]:
        if not self.labelled:
            return ()
        if unnamed := [number for number, one in enumerate(self.sources) if not one.classes]:
            if len(unnamed) == len(self.sources):
                return ()
            named = next(one for one in self.sources if one.classes)
            message = f"the classes of source {unnamed[0]} are numbers, and others have names ({listed(named.classes)})"
            raise ValueError(f"{message}: give class_names there too")
        return tuple(sorted({name for one in self.sources for name in one.classes}))

    @property
    def classes(self) -> Sequence[str]:
        return self._classes

    @property
    def why_unlabelled(self) -> str:
        return next(
            f"source {number}: {one.why_unlabelled}" for number, one in enumerate(self.sources) if not one.labelled
        )

    @property
    def remarks(self) -> Sequence[str]:
        return [remark for one in self.sources for remark in one.remarks]

    def label(self, index: int) -> Label:
        number, own = self._place(index)
        return next(labels_of(self._matched[number], [own]))


ConcatSourceConf = config_for(ConcatSource)
