"""Any network of torchvision or, with the extra `timm`, of timm as a trunk, by its name there."""

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import Annotated, Self

import torch
from annotated_types import Gt
from torch import nn
from torchvision import models

from ssltyped.config import config_for, refuse
from ssltyped.config.hints import nearest
from ssltyped.trunks.base import Input, InputConf
from ssltyped.trunks.hooked import HookedTrunk, replace, see_channels
from ssltyped.types import Facts, Problem

CLASSES = 1000
"""What torchvision's networks classify into."""


class TorchvisionTrunk(HookedTrunk):
    """torchvision's network of this name, freshly drawn as torchvision does; its last layer, the classifier, removed.

    The default feature `flatten` (B D) is what the classifier got; the others have the names of modules, for example
    `layer3` or `layer4.1` of resnet18 (see `HookedTrunk`). Nothing is downloaded. Raises ValueError for a name that
    torchvision does not have.

    Args:
        name: a name of `torchvision.models.list_models()` that classifies images, for example convnext_tiny.
        image_size: height and width of an image in pixels; vision transformers are built for it.
    """

    def __init__(self, *, name: str, image_size: Annotated[int, Gt(0)] = 224, input: Input = InputConf()) -> None:
        refuse(_torchvision_problems(name))
        model = _torchvision_network(name, image_size)
        _remove_classifier(model)
        see_channels(model, input.seen_channels)
        super().__init__(model=model, image_size=image_size, input=input)
        self.name = name

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        return _torchvision_problems(config.name)


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
        image_size: height and width of an image in pixels; networks that timm makes for one size are made for this one.
    """

    def __init__(self, *, name: str, image_size: Annotated[int, Gt(0)] = 224, input: Input = InputConf()) -> None:
        refuse(_timm_problems(name))
        super().__init__(model=_timm_network(name, input.seen_channels, image_size), image_size=image_size, input=input)
        self.name = name

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
    """Without classifier; only networks made for one size are told which."""
    import timm

    known = timm.get_pretrained_cfg(name, allow_unregistered=False) if timm.is_model_pretrained(name) else None
    size = {"img_size": image_size} if known is not None and known.fixed_input_size else {}
    return timm.create_model(name, pretrained=False, num_classes=0, in_chans=channels, **size)


TorchvisionTrunkConf = config_for(TorchvisionTrunk)
TimmTrunkConf = config_for(TimmTrunk)
