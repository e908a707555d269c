"""What weights are, in configs: as a run has them, and as a file says it wherever it goes."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from ssltyped import config
from ssltyped.transforms.views import last_size
from ssltyped.types import Head, Trunk
from ssltyped.weights.load import Load, LoadConf


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


def said_of(found: Pretrained) -> dict[str, str]:
    """What a file keeps of it, so that it is known wherever the file goes (`pretrained`)."""
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
