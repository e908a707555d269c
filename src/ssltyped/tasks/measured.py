"""What all measures of a trained trunk share: weights, images, features."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Self, cast

import torch
from torch import nn

from ssltyped.config import ConfigError, build, replaced
from ssltyped.config.component import AnyConfig
from ssltyped.config.hints import nearest
from ssltyped.data.classes import mismatch
from ssltyped.data.known import Sources
from ssltyped.data.measured import ImageSet
from ssltyped.data.normalizing import Normalizer
from ssltyped.data.reading import ReadEval
from ssltyped.data.sampler import permute
from ssltyped.engine.parallel import Distributed, Place, device_for, say
from ssltyped.engine.settled import BATCHES, settled
from ssltyped.engine.unreadable import UnreadableImages
from ssltyped.evals.extraction import HEADS, Extractor, Pooling, extract, known_names
from ssltyped.evals.features import Features
from ssltyped.model.fits import misfits
from ssltyped.model.model import SSLModel
from ssltyped.transforms.geometry import CenterCropConf, ResizeConf
from ssltyped.transforms.views import last_size
from ssltyped.types import Facts, Head, Inference, Problem, Source, Task
from ssltyped.weights.load import LoadReport
from ssltyped.weights.pretrained import Pretrained, pretrained


class TrunkState(Enum):
    """Which trunk is measured: that with the weights, or a new one of the same kind, to compare with."""

    TRAINED = "trained"
    UNTRAINED = "untrained"


class OfTrunk(Task):
    """A task that works on features of a trunk.

    Args:
        weights: the folder of a run, a checkpoint in it, or a file of weights; it must fill the whole trunk.
        trunk: trained; or untrained: a new one of the same kind, drawn by seed, whose BatchNorm layers have the
            statistics of some of the images.
        features: names of the trunk's features, heads.NAME for the output of a head; null: the trunk's last feature.
        pooling: what becomes of a feature that is a map: the mean over places, or all of them in a row.
        data: the images.
        distributed: the ranks that share the work.
        seed: of what is random: an untrained trunk, the order of images.
    """

    weights: Path
    trunk: TrunkState
    features: list[str]
    pooling: Pooling
    data: ImageSet
    distributed: Distributed
    seed: int

    @classmethod
    def facts(cls, config: AnyConfig) -> Facts:
        found, sources = pretrained(config.weights), Sources()
        own = super().facts(config)
        size = last_size(config.data.transforms or []) or found.image_size
        known = sources.of_source(config.data.source, "data.source") if config.data.source is not None else None
        test = getattr(config.data, "test_source", None)
        other = sources.of_source(test, "data.test_source") if test is not None else None
        unmatched = ""
        if known is not None and known.source is not None and known.labelled and other is not None and other.labelled:
            assert other.source is not None
            unmatched = mismatch(other.source, known.source, whose=("data.test_source", "data.source"))
        both = [one for one in (known, other) if one is not None]
        return Facts(
            world_size=own.world_size,
            ranks_per_node=own.ranks_per_node,
            batch_size=config.data.batch_size,
            accumulation=1,
            num_views=1,
            crop_sizes=(size,),
            feature_dims=_feature_dims(found),
            heads=tuple(found.heads),
            output_dims=_output_dims(found),
            num_channels=len(found.mean),
            num_images=known.length if known is not None else None,
            labelled=all(one.labelled for one in both) if both else None,
            unlabelled=next((one.why for one in both if one.why), ""),
            classes=tuple(known.source.classes) if known is not None and known.source is not None else (),
            unmatched=unmatched,
            label_rows=any(one.labels.rows for one in both),
        )

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        found = pretrained(config.weights)
        yield Inference("features", list(facts.feature_dims)[-1:], "the trunk's last feature", default=True)
        size = found.image_size
        views = [ResizeConf(size=size), CenterCropConf(size=size)]
        yield Inference("data.transforms", views, f"the weights are for {size} x {size} pixels", default=True)
        for name, value in (("mean", found.mean), ("std", found.std)):
            yield Inference(f"data.{name}", value, "of the images that the weights are for", default=True)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        known = known_names(facts.feature_dims, {name: len(dims) for name, dims in facts.output_dims.items()})
        if not config.features:
            yield Problem("features", "give at least one")
        for place, name in enumerate(config.features):
            if name not in known:
                yield Problem(f"features.{place}", f"there is no feature {name!r}{nearest(name, list(known))}")
        if config.trunk is TrunkState.UNTRAINED and any(name.startswith(HEADS) for name in config.features):
            yield Problem("features", "an untrained trunk has no heads: ask for features of the trunk")
        if not last_size(config.data.transforms):
            yield Problem("data.transforms", "give images of no known size: end with a crop")
        found = pretrained(config.weights)
        with torch.device("meta"):
            trunk = build(found.trunk, "trunk")
        yield from misfits(trunk, {}, len(found.mean), dict.fromkeys(facts.crop_sizes, "data.transforms"))

    @classmethod
    def warnings(cls, config: AnyConfig, facts: Facts) -> Iterable[Problem]:
        for name, why in pretrained(config.weights).assumed.items():
            yield Problem("weights", f"do not say their {name}; taken: {why}")

    def plan(self) -> Iterator[str]:
        with torch.device("meta"):
            _, told = self._model()
        yield f"{type(self).__name__} of {', '.join(self.features)} ({self.pooling.value} over places)"
        yield f"  trunk    {told}"
        yield f"  images   {len(self.data.images()):,}" + self._plan_of_test()
        yield from (f"           {remark}" for remark in self.data.images().remarks)

    def _plan_of_test(self) -> str:
        return ""

    def extracted(self, folders: Mapping[Path, Source]) -> list[Features]:
        """The features of each of these sources, written to its folder (collective). Raises `ConfigError`."""
        place = Place.from_environment()
        device = device_for(self.distributed.device, place.local_rank if place else 0)
        model, told = self._model()
        say(f"measures {told}")
        if self.trunk is TrunkState.UNTRAINED:
            model = self._settled(model.to(device))
        weights, found = weights_hash(model), list[Features]()
        for folder, source in folders.items():
            for remark in source.remarks:
                say(remark)
            say(f"features of {len(source):,} images: {folder}")
            about = {"weights": weights, "images": names_hash(source)}
            try:
                found.append(self._extract(model, source, folder, device, about))
            except ValueError as error:
                raise ConfigError([Problem("features", str(error))]) from error
            if left_out := len(source) - len(found[-1]):
                say(f"{left_out} of {len(source):,} images cannot be read and are left out: {folder}")
        return found

    def _extract(
        self, model: SSLModel, source: Source, folder: Path, device: torch.device, about: Mapping[str, str]
    ) -> Features:
        folder.mkdir(parents=True, exist_ok=True)
        return extract(
            model.trunk,
            source,
            folder,
            heads=cast("Mapping[str, Head]", dict(model.heads.items())),
            transforms=self.data.transforms,
            features=self.features,
            mean=self.data.mean,
            std=self.data.std,
            pooling=self.pooling,
            batch_size=self.data.batch_size,
            num_workers=self.data.num_workers,
            device=device,
            made_from=about,
            on_unreadable=UnreadableImages(folder),
        )

    def _model(self) -> tuple[SSLModel, str]:
        """The model that is measured, on the device of the block, and in words what it is."""
        found = pretrained(self.weights)
        torch.manual_seed(self.seed)
        trunk = build(found.trunk, "trunk")
        if self.trunk is TrunkState.UNTRAINED:
            return SSLModel(trunk=trunk, heads={}), f"an untrained trunk as in {self.weights} (seed {self.seed})"
        wants_heads = any(name.startswith(HEADS) for name in self.features)
        heads = {name: build(head, f"heads.{name}") for name, head in found.heads.items()} if wants_heads else {}
        model = SSLModel(trunk=trunk, heads=heads)
        load = build(replaced(found.load, {"into": ""}) if wants_heads else found.load)
        try:
            report: LoadReport = load(model)
        except ConfigError as error:
            raise ConfigError([Problem("weights", one.message) for one in error.problems]) from error
        if report.share < 1:
            raise ConfigError([Problem("weights", f"do not fill the trunk: {report}")])
        return model, str(report)

    def _settled(self, model: SSLModel) -> SSLModel:
        """With BatchNorm statistics of images from everywhere in the set: those of a folder come class by class."""
        source, extractor = self.data.images(), Extractor(model.trunk, {}, self.features, self.pooling)
        count = min(len(source), BATCHES * self.data.batch_size)
        order = permute(torch.arange(count).numpy(), len(source), self.seed, 0).tolist()
        reader, normalize = ReadEval(source, self.data.transforms).reader, Normalizer(self.data.mean, self.data.std)
        device = next(model.parameters()).device
        starts = range(0, count, self.data.batch_size)
        replies = (reader.readable(0, order[start : start + self.data.batch_size]) for start in starts)
        views = (normalize(reply.views[0].to(device)) for reply in replies if len(reply.index) > 1)
        return settled(extractor.model, views, lambda own, view: own([view]))


def weights_hash(model: nn.Module) -> str:
    """Of all tensors by name: another file with the same weights is the same."""
    found = hashlib.sha256()
    for name, value in model.state_dict().items():
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def names_hash(source: Source) -> str:
    """Of the names of all images in order."""
    found = hashlib.sha256()
    for index in range(len(source)):
        found.update(source.name(index).encode(errors="surrogateescape") + b"\n")
    return found.hexdigest()


def _feature_dims(found: Pretrained) -> Mapping[str, int]:
    with torch.device("meta"):
        return dict(build(found.trunk, "trunk").feature_dims)


def _output_dims(found: Pretrained) -> Mapping[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(build(head, f"heads.{name}").out_dims) for name, head in found.heads.items()}
