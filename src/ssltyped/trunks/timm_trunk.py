"""Any network of timm as a trunk, by its name there; needs the extra `timm`."""

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import Annotated, Self

from annotated_types import Gt
from torch import nn

from ssltyped.config import config_for, refuse
from ssltyped.config.hints import nearest
from ssltyped.trunks.hooked import HookedTrunk
from ssltyped.trunks.input import Input, InputConf
from ssltyped.types import Facts, Problem


class TimmTrunk(HookedTrunk):
    """timm's network of this name, freshly drawn as timm does, without its classifier.

    The default feature `flatten` (B D) is timm's pooled one; the others have the names of modules, for example
    `layer3` of resnet18 or `blocks.5` of a vision transformer (see `HookedTrunk`). Nothing is downloaded. Raises
    ValueError for a name that timm does not have, or where timm is not installed.

    Args:
        name: a name of `timm.list_models()`, for example resnet26d.
        image_size: height and width of an image in pixels; networks that timm makes for one size are made for this one.
        input: the images as it takes them.
    """

    def __init__(self, *, name: str, image_size: Annotated[int, Gt(0)] = 224, input: Input = InputConf()) -> None:
        refuse(_name_problems(name))
        super().__init__(model=_network(name, input.seen_channels, image_size), image_size=image_size, input=input)
        self.name = name

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        return _name_problems(config.name)


def _name_problems(name: str) -> Iterator[Problem]:
    if find_spec("timm") is None:
        yield Problem("name", "timm is not installed: pip install 'ssltyped[timm]'")
        return
    import timm

    if not timm.is_model(name):
        yield Problem("name", f"timm has no network {name!r}{nearest(name, timm.list_models())}")


def _network(name: str, channels: int, image_size: int) -> nn.Module:
    """Without classifier; only networks made for one size are told which."""
    import timm

    known = timm.get_pretrained_cfg(name, allow_unregistered=False) if timm.is_model_pretrained(name) else None
    size = {"img_size": image_size} if known is not None and known.fixed_input_size else {}
    return timm.create_model(name, pretrained=False, num_classes=0, in_chans=channels, **size)


TimmTrunkConf = config_for(TimmTrunk)
