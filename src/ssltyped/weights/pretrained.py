"""What a run, or a file of weights, has to offer: a trunk, what fills it, and the images that it is for."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from ssltyped import config
from ssltyped.config import ConfigError
from ssltyped.transforms.views import last_size
from ssltyped.types import Head, Problem, Trunk
from ssltyped.weights.load import Load, LoadConf


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """Configs of what was trained, and how a new one gets its weights.

    Args:
        trunk: the config of the trunk.
        heads: the configs of the heads that the weights have, by name; none of a file that has only a trunk.
        load: what fills a model of the trunk (and with `into=""` of the heads, if there are some).
        origin: whose weights these are, in a few words: "a run of ours", "VISSL", "torchvision".
        mean: of the images in [0, 1], by channel.
        std: the same.
        image_size: side of the images that it was trained on, in pixels.
    """

    trunk: Trunk
    heads: Mapping[str, Head]
    load: Load
    origin: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int


def pretrained(path: Path) -> Pretrained:
    """What is at `path`: the folder of a run, a checkpoint in it, or a file. Raises `ConfigError` for anything else."""
    for folder in (path, *path.parents[:3]):  # RUN, RUN/weights.pt, RUN/checkpoints/step_N
        if (folder / "resolved.yaml").is_file():
            return _of_run(path, config.from_yaml((folder / "resolved.yaml").read_text()))
    message = f"{path} is no run of ours, nor lies in one: there is no resolved.yaml"
    raise ConfigError([Problem("weights", message if path.exists() else f"{path} does not exist")])


def _of_run(path: Path, experiment: object) -> Pretrained:
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
