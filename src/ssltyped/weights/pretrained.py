"""What a run, or a file of weights, has to offer: a trunk, what fills it, and the images that it is for."""

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

from ssltyped import config
from ssltyped.config import ConfigError
from ssltyped.config.hints import listed
from ssltyped.data.pipeline import IMAGENET_MEAN, IMAGENET_STD
from ssltyped.transforms.views import last_size
from ssltyped.types import Head, Problem, Trunk
from ssltyped.weights.load import Load, LoadConf
from ssltyped.weights.recognise import recognise
from ssltyped.weights.stored import OURS, Stored, read_stored

IMAGE_SIZE = 224
"""Side of the images of networks that do not say theirs."""


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """Configs of what was trained, and how a new one gets its weights.

    Args:
        trunk: the config of the trunk.
        heads: the configs of the heads that the weights have, by name; none of a file of somebody else.
        load: what fills a model of the trunk (and with `into=""` of the heads, if there are some).
        origin: whose weights these are, in a few words: "a run of ours", "VISSL: trunk", "torchvision".
        mean: of the images in [0, 1], by channel; ImageNet's where a file does not say.
        std: the same.
        image_size: side of the images that it was trained on, in pixels; of a file that does not say, the size for
            which positions are learned, or 224.
        assumed: fields of the trunk that a file leaves open, with the reason for their values.
    """

    trunk: Trunk
    heads: Mapping[str, Head]
    load: Load
    origin: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    assumed: Mapping[str, str] = dataclasses.field(default_factory=dict)


def pretrained(path: Path) -> Pretrained:
    """What is at `path`: the folder of a run, a checkpoint in it, a file or folder of anybody's weights.

    Raises `ConfigError` for anything else, and where the tensors are those of no trunk of ours.
    """
    if (resolved := run_of(path)) is not None:
        return of_experiment(path, config.from_yaml(resolved.read_text()))
    files = sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []
    states = [(file, file.stat()) for file in files if file.is_file()]
    return _read_once(path, tuple((file.name, state.st_mtime_ns, state.st_size) for file, state in states))


@functools.lru_cache(maxsize=4)
def _read_once(path: Path, state: tuple[tuple[str, int, int], ...]) -> Pretrained:
    """What files in this state hold: several gigabytes, that the rules of a recipe ask for again and again."""
    try:
        stored = read_stored(path)
    except ConfigError as error:
        raise ConfigError([Problem("weights", problem.message) for problem in error.problems]) from error
    return pretrained_in(path, stored)


def pretrained_in(path: Path, stored: Stored) -> Pretrained:
    """The same where the file has been read."""
    if (resolved := run_of(path)) is not None:
        return of_experiment(path, config.from_yaml(resolved.read_text()))
    return _of_export(path, stored) if stored.kind == OURS and "trunk" in stored.said else _of_file(path, stored)


def run_of(path: Path) -> Path | None:
    """The config of the run that a folder is, or in which a checkpoint or weights of ours lie."""
    if path.is_file() and path.name not in ("weights.pt", "student.pt", "state.pt"):
        return None
    path = path.resolve()  # a relative one has no parents beyond the folder that it starts from
    places = (path, *path.parents[:3])  # RUN, RUN/weights.pt, RUN/checkpoints/step_N/state.pt
    return next((place / "resolved.yaml" for place in places if (place / "resolved.yaml").is_file()), None)


def said_of(found: Pretrained) -> dict[str, str]:
    """What a file keeps of it, so that it is known wherever the file goes (`_of_export`)."""
    return {
        "trunk": config.to_yaml(found.trunk),
        "heads": json.dumps({name: config.to_yaml(head) for name, head in found.heads.items()}),
        "mean": json.dumps(found.mean),
        "std": json.dumps(found.std),
        "image_size": str(found.image_size),
    }


def of_experiment(path: Path, experiment: object) -> Pretrained:
    """What the weights of a run are, which was resolved to this."""
    views, val = config.get(experiment, "data.train.views"), config.get(experiment, "data.val")
    return Pretrained(
        trunk=config.get(experiment, "trunk"),
        heads=dict(config.get(experiment, "heads")),
        load=LoadConf(path=path),
        origin="a run of ours",
        mean=tuple(config.get(experiment, "data.mean")),
        std=tuple(config.get(experiment, "data.std")),
        image_size=last_size(val.transforms) if val else max(config.build(views).crop_sizes),
    )


def _of_export(path: Path, stored: Stored) -> Pretrained:
    """What an export of ours, or the weights of a run, say of themselves."""
    said = stored.said
    return Pretrained(
        trunk=config.from_yaml(said["trunk"]),
        heads={name: config.from_yaml(text) for name, text in json.loads(said["heads"]).items()},
        load=LoadConf(path=path),
        origin="weights of ours",
        mean=tuple(json.loads(said["mean"])),
        std=tuple(json.loads(said["std"])),
        image_size=int(said["image_size"]),
    )


def _of_file(path: Path, stored: Stored) -> Pretrained:
    found = recognise(stored)
    if found is None or not found.complete:
        starts = listed(list(dict.fromkeys(name.partition(".")[0] for name in stored.tensors)), 8)
        nearly = f"; nearest: {found.fit.source}" if found else ""
        message = f"{path} has the tensors of no trunk of ours; their names start with {starts}{nearly}"
        raise ConfigError([Problem("weights", message)])
    images = _Images.of(path)
    channels = config.get(found.trunk, "input.channels")
    assumed = dict(found.assumed)
    if ours := stored.kind == OURS:
        assumed["mean"] = "ImageNet's, as std and the size of images: the run that the file is of is not around it"
    if channels != len(images.mean):
        images = _Images((0.0,) * channels, (1.0,) * channels, images.size)
        assumed["mean"] = f"0, and std 1: nothing is known of images of {channels} channels"
    return Pretrained(
        trunk=found.trunk,
        heads={},
        load=LoadConf(path=path),
        origin="weights of ours, without their run" if ours else found.fit.source,
        mean=images.mean,
        std=images.std,
        image_size=images.size or getattr(found.trunk, "image_size", IMAGE_SIZE),
        assumed=assumed,
    )


class _Images(NamedTuple):
    """What a network was trained on: ImageNet's mean and deviation, if nothing beside it says another."""

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    size: int = 0

    @classmethod
    def of(cls, path: Path) -> Self:
        """What stands beside a model of Hugging Face's, or nothing."""
        file = (path if path.is_dir() else path.parent) / "preprocessor_config.json"
        try:
            said = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        except ValueError as error:
            raise ConfigError([Problem("weights", f"{file} is no JSON: {error}")]) from error
        size = said.get("crop_size") or said.get("size") or {}
        sides = [side for side in (size.values() if isinstance(size, dict) else [size]) if isinstance(side, int)]
        mean, std = (tuple(said.get(f"image_{kind}") or ()) for kind in ("mean", "std"))
        return cls(mean or IMAGENET_MEAN, std or IMAGENET_STD, min(sides, default=0))
