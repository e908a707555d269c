"""What is known of the images of a run before it starts; what is costly to find out (a folder's length) only once."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Optional

from ssltyped import config
from ssltyped.config import ConfigError
from ssltyped.data.classes import mismatch
from ssltyped.data.label_count import LabelCount, label_count
from ssltyped.data.listing import Listing, listings, remember
from ssltyped.data.pipeline import Data
from ssltyped.data.relabelled import RelabelledSourceConf
from ssltyped.data.splits import Split, TrainSplit, lacks_images, reads_sample
from ssltyped.types import Problem, Source, check_classes


class Known(NamedTuple):
    """Of the images of a split: how many, whether they have labels, why not, which, and the source.

    What is not known, because they are not here, is None.
    """

    length: Optional[int]
    labelled: Optional[bool]
    why: str
    labels: LabelCount
    source: Optional[Source]


class Sources:
    """Of the splits of a config."""

    def __init__(self) -> None:
        self._known: dict[str, Known] = {}
        self._told: Mapping[str, LabelCount] = {}

    def findings(self) -> str:
        """What it cost to find out, for the other processes of a launch: the folders, and the labels by source."""
        labels = dict(self._told) | {key: one.labels for key, one in self._known.items()}
        found = {str(folder): listing.to_json() for folder, listing in listings().items()}
        return json.dumps([found, {key: dataclasses.asdict(count) for key, count in labels.items()}])

    def take(self, findings: str) -> None:
        """What another process has found is not looked for again, but for folders that have changed since."""
        found, labels = json.loads(findings)
        remember({Path(folder): Listing.from_json(listing) for folder, listing in found.items()})
        self._told = {key: LabelCount(**count) for key, count in labels.items()}

    def of(self, split: Split, path: str) -> Known:
        """The declared length where the images are not here. Raises `ConfigError` for a source that cannot be."""
        if split.source is None:
            return Known(split.num_images, None, "", LabelCount(), None)
        known = self.of_source(split.source, f"{path}.source", may_lack=split.num_images is not None)
        return known if known.length is not None else known._replace(length=split.num_images)

    def of_source(self, asked: Source, path: str, *, may_lack: bool = False) -> Known:
        """Nothing is known of one that cannot be, if it `may_lack`; else it is a `ConfigError`."""
        key = config.key_of(asked)
        if key not in self._known:
            try:
                source = config.build(asked)
                check_classes(source)
                why = "" if source.labelled else source.why_unlabelled
                labels = self._told.get(key) or label_count(source)
                self._known[key] = Known(len(source), source.labelled, why, labels, source)
            except (OSError, ValueError) as error:
                if isinstance(error, ConfigError) or not may_lack:
                    raise ConfigError([Problem(path, str(error))]) from error
                self._known[key] = Known(None, None, "", LabelCount(), None)
        return self._known[key]

    def learned(self, train: TrainSplit) -> Known:
        """Of the images to train on, with the labels that are learned."""
        if train.labels is None or train.source is None:
            return self.of(train, "data.train")
        pseudo = RelabelledSourceConf(source=train.source, labels=train.labels)
        return self.of(config.replaced(train, {"source": pseudo}), "data.train")

    def val_labels(self, data: Data) -> tuple[Optional[bool], str]:
        """Whether the images of `data.val` have labels, and why not; None where that is not known (yet)."""
        train, val = data.train, data.val
        assert val is not None
        if lacks_images(val) and reads_sample(train) is False:
            return False, "data.val has no images: give it a path, and they are evaluated on"
        known = self.of(config.replaced(val, {"source": val.sample}) if lacks_images(val) else val, "data.val")
        return known.labelled, known.why

    def unmatched(self, data: Data) -> str:
        """Why the labels of `data.val` are not those of `data.train`; empty if they are, or are not here to look at."""
        if data.val is None:
            return ""
        theirs, ours = self.of(data.val, "data.val"), self.of(data.train, "data.train")
        if theirs.source is None or ours.source is None or not (theirs.labelled and ours.labelled):
            return ""
        return mismatch(theirs.source, ours.source)

    def problems(self, data: Data, *, to_run: bool) -> list[Problem]:
        """Images that are not as many as declared; `to_run` also those that are not here, or that are no images."""
        found = []
        for name, split in (("train", data.train), ("val", data.val)):
            if split is None or lacks_images(split):
                continue
            known = self.of(split, f"data.{name}")
            if known.source is None and to_run:
                found.append(Problem(f"data.{name}.path", f"{split.path} does not exist: give the path of your images"))
            if known.source is not None and split.num_images not in (None, known.length):
                message = f"declared {split.num_images}, but there are {known.length} images: leave it out (null)"
                found.append(Problem(f"data.{name}.num_images", message))
            if known.labels.wrong:
                found.append(Problem(f"data.{name}.source", known.labels.wrong))
        if data.train.labels is not None and (wrong := self.learned(data.train).labels.wrong):
            found.append(Problem("data.train.labels", wrong))
        return found or (list(config.build(data, "data").trial()) if to_run else [])
