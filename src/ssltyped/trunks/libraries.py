"""Any network of torchvision or, with the extra `timm`, of timm as a trunk, by its name there."""

import inspect
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import Annotated, Optional, Self

import torch
from annotated_types import Gt
from torch import nn
from torchvision import models

from ssltyped.config import config_for, refuse
from ssltyped.config.hints import nearest
from ssltyped.trunks.base import Input, InputConf
from ssltyped.trunks.hooked import HookedTrunk, replace, see_channels
from ssltyped.types import Facts, Inference, Problem

CLASSES = 1000
"""What torchvision's networks classify into."""

SIZE = 224
"""Side of the images that most networks are made for."""


class TorchvisionTrunk(HookedTrunk):
    """torchvision's network of this name, freshly drawn as torchvision does; its last layer, the classifier, removed.

    The default feature `flatten` (B D) is what the classifier got; the others have the names of modules, for example
    `layer3` or `layer4.1` of resnet18 (see `HookedTrunk`). Nothing is downloaded. Raises ValueError for a name that
    torchvision does not have.

    Args:
        name: a name of `torchvision.models.list_models()` that classifies images, for example convnext_tiny.
        image_size: height and width of an image in pixels; vision transformers are built for it, and take no other;
            null: those of the largest view, without a recipe 224.
    """

    def __init__(
        self, *, name: str, image_size: Optional[Annotated[int, Gt(0)]] = None, input: Input = InputConf()
    ) -> None:
        refuse(_torchvision_problems(name))
        size = image_size or SIZE
        model = _torchvision_network(name, size)
        _remove_classifier(model)
        see_channels(model, input.seen_channels)
        super().__init__(model=model, image_size=size, input=input)
        self.name = name

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        return _size_of_views(facts)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        return _torchvision_problems(config.name)


def _size_of_views(facts: Facts) -> Iterator[Inference]:
    if facts.crop_sizes:
        yield Inference("image_size", max(facts.crop_sizes), "side of the largest view", default=True)


def _torchvision_problems(name: str) -> Iterator[Problem]:
    known = models.list_models(module=models)
    if name not in known:
        yield Problem("name", f"torchvision has no classification network {name!r}{nearest(name, known)}")


def _torchvision_network(name: str, image_size: int) -> nn.Module:
    if not name.startswith("regnet_"):
        return models.get_model(name, weights=None, **_options(name, image_size))
    device = torch.get_default_device()
    with torch.device("cpu"):  # computes its widths with tensors, which have no values on the meta device
        return models.get_model(name, weights=None).to(device)


def _options(name: str, image_size: int) -> dict[str, object]:
    """What must be said to build it without extra classifiers, and for images of this size."""
    if name in ("googlenet", "inception_v3"):
        return {"aux_logits": False, "init_weights": False}
    if name.startswith("vit_"):
        return {"image_size": image_size}
    return {"input_size": (image_size, image_size)} if name == "maxvit_t" else {}


def _remove_classifier(model: nn.Module) -> None:
    """The last layer with as many outputs as classes; SqueezeNet's is a convolution."""
    widths = {name: getattr(m, "out_features", getattr(m, "out_channels", 0)) for name, m in model.named_modules()}
    replace(model, [name for name, width in widths.items() if width == CLASSES][-1], nn.Identity())


class TimmTrunk(HookedTrunk):
    """timm's network of this name, freshly drawn as timm does, without its classifier.

    The default feature `flatten` (B D) is timm's pooled one; the others have the names of modules, for example
    `layer3` of resnet18 or `blocks.5` of a vision transformer (see `HookedTrunk`). Nothing is downloaded. Raises
    ValueError for a name that timm does not have, or where timm is not installed.

    Args:
        name: a name of `timm.list_models()`, for example resnet26d.
        image_size: height and width of an image in pixels; networks that timm makes for one size are made for this one,
            and take others where timm can interpolate their positions; null: as in TorchvisionTrunk.
    """

    def __init__(
        self, *, name: str, image_size: Optional[Annotated[int, Gt(0)]] = None, input: Input = InputConf()
    ) -> None:
        refuse(_timm_problems(name))
        size = image_size or SIZE
        super().__init__(model=_timm_network(name, input.seen_channels, size), image_size=size, input=input)
        self.name = name

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        return _size_of_views(facts)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        return _timm_problems(config.name)


def _timm_problems(name: str) -> Iterator[Problem]:
    if find_spec("timm") is None:
        yield Problem("name", "timm is not installed: pip install 'ssltyped[timm]'")
        return
    import timm

    if not timm.is_model(name):
        yield Problem("name", f"timm has no network {name!r}{nearest(name, timm.list_models())}")


def _timm_network(name: str, channels: int, image_size: int) -> nn.Module:
    """Without classifier; only networks made for one size are told which, and to take others too if they can."""
    import timm

    known = timm.get_pretrained_cfg(name, allow_unregistered=False) if timm.is_model_pretrained(name) else None
    if known is None or not known.fixed_input_size:
        return timm.create_model(name, pretrained=False, num_classes=0, in_chans=channels)
    with torch.device("meta"):
        made = timm.create_model(name, pretrained=False, num_classes=0, in_chans=channels)
        takes = inspect.signature(type(made)).parameters
    size = {"img_size": image_size, **({"dynamic_img_size": True} if "dynamic_img_size" in takes else {})}
    return timm.create_model(name, pretrained=False, num_classes=0, in_chans=channels, **size)


TorchvisionTrunkConf = config_for(TorchvisionTrunk)
TimmTrunkConf = config_for(TimmTrunk)
