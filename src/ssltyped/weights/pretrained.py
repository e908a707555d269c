"""What a run, or a file of weights, has to offer: a trunk, what fills it, and the images that it is for."""

import functools
import json
from pathlib import Path
from typing import NamedTuple, Self

from ssltyped import config
from ssltyped.config import ConfigError
from ssltyped.config.hints import listed
from ssltyped.data.pipeline import IMAGENET_MEAN, IMAGENET_STD
from ssltyped.types import Problem, Task
from ssltyped.weights.described import Pretrained, of_experiment
from ssltyped.weights.load import LoadConf
from ssltyped.weights.recognise import recognise
from ssltyped.weights.stored import OURS, Stored, read_stored

IMAGE_SIZE = 224
"""Side of the images of networks that do not say theirs."""


def pretrained(path: Path) -> Pretrained:
    """What is at `path`: the folder of a run, a checkpoint in it, a file or folder of anybody's weights.

    Raises `ConfigError` for anything else, and where the tensors are those of no trunk of ours.
    """
    if (resolved := run_of(path)) is None:
        return _in_files(path)
    try:
        return _of_run(path, resolved)
    except ConfigError as unread:
        try:  # a run of an older version, say, whose weights say themselves what they are
            return _in_files(path)
        except ConfigError:
            raise unread from None


def _in_files(path: Path) -> Pretrained:
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
    if stored.kind == OURS and "trunk" in stored.said:
        return _of_export(path, stored)
    resolved = run_of(path)
    return _of_file(path, stored) if resolved is None else _of_run(path, resolved)


def run_of(path: Path) -> Path | None:
    """The config of the run that a folder is, or in which a checkpoint or weights of ours lie."""
    if path.is_file() and path.name not in ("weights.pt", "student.pt", "state.pt"):
        return None
    path = path.resolve()  # a relative one has no parents beyond the folder that it starts from
    places = (path, *path.parents[:3])  # RUN, RUN/weights.pt, RUN/checkpoints/step_N/state.pt
    return next((place / "resolved.yaml" for place in places if (place / "resolved.yaml").is_file()), None)


def _of_run(path: Path, resolved: Path) -> Pretrained:
    """What the config of a run says. Raises `ConfigError` that names the file, also for a run that trained nothing."""
    try:
        experiment = config.from_yaml(resolved.read_text())
    except ConfigError as error:
        told = "; ".join(map(str, error.problems))
        raise ConfigError([Problem("weights", f"{resolved} is not a config of this version: {told}")]) from error
    if issubclass(config.part_of(experiment).kind, Task):
        measured = getattr(experiment, "weights", None)
        instead = f"; it measured {measured}: give that" if measured else ""
        raise ConfigError([Problem("weights", f"{path} is a run that trained nothing{instead}")])
    return of_experiment(path, experiment)


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
