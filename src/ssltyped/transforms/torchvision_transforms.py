"""Transforms of torchvision: any by its name, and the learned policies as parts of their own."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from typing import Annotated, Optional, Self, TypeAlias, cast

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor
from torchvision.transforms import v2

from ssltyped.config import config_for, refuse
from ssltyped.config.hints import brief, nearest
from ssltyped.transforms.opencv import to_array, to_image
from ssltyped.types import Facts, Image, Problem, Random, Transform

Value: TypeAlias = bool | int | float | str | list[int] | list[float] | None
"""What an argument can be; a size or a range is a list."""

Apply: TypeAlias = Callable[[Tensor], object]
"""A built transform of torchvision."""

STRONGEST = 30
"""The largest strength of RandAugment's operations."""

TRIAL_SIDE = 512
"""Side of the black square that `problems` tries a transform on."""


class AutoAugmentPolicy(Enum):
    """The data that a policy was learned on."""

    IMAGENET = "imagenet"
    CIFAR10 = "cifar10"
    SVHN = "svhn"


def applied(apply: Apply, image: Image, random: Random) -> Image:
    """`apply(image)` with torch's random numbers drawn from `random`, whose own sequence goes on as before."""
    seed = int(random.integers(2**62))
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        result = apply(image)
    assert isinstance(result, Tensor)
    return to_image(to_array(result))


class _Policy(Transform):
    """Operations of torchvision that know images of one and of three channels."""

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if facts.num_channels not in (None, 1, 3):
            yield Problem("", f"needs 1 or 3 channels, and the images have {facts.num_channels}: leave it out")


class RandAugment(_Policy):
    """`num_ops` operations, drawn anew for each image from 14 geometric and photometric ones, of about one strength.

    Each is done with probability p, at the strength N(magnitude, magnitude_std^2), rounded and cut to 0 .. 30; shears,
    shifts, rotations and enhancements have a random sign. Cubuk et al. 2020 (arXiv 1909.13719), section 3, as
    torchvision has it, also the defaults. DeiT (Touvron et al. 2021, arXiv 2012.12877, section 6) trains with
    "rand-m9-mstd0.5-inc1" of timm, whose strengths go to 10: here magnitude 27, magnitude_std 1.5 and p 0.5.
    [C, H, W] both ways, C 1 or 3.

    Args:
        num_ops: operations an image, one after another
        magnitude: strength of each, of 30 at most
        magnitude_std: standard deviation of the strength
        p: probability of each operation
        fill: level where an operation leaves no image
    """

    def __init__(
        self,
        *,
        num_ops: Annotated[int, Gt(0)] = 2,
        magnitude: Annotated[int, Ge(0), Le(STRONGEST)] = 9,
        magnitude_std: Annotated[float, Ge(0)] = 0.0,
        p: Annotated[float, Ge(0), Le(1)] = 1.0,
        fill: Annotated[int, Ge(0), Le(255)] = 128,
    ) -> None:
        self.num_ops, self.magnitude, self.magnitude_std, self.p, self.fill = num_ops, magnitude, magnitude_std, p, fill
        strengths = range(STRONGEST + 1) if magnitude_std else [magnitude]
        self._by_strength: dict[int, Apply] = {
            strength: v2.RandAugment(num_ops=1, magnitude=strength, fill=fill) for strength in strengths
        }

    def __call__(self, image: Image, random: Random) -> Image:
        count = int(random.binomial(self.num_ops, self.p))
        drawn = self.magnitude + self.magnitude_std * random.standard_normal(count)
        chain = [self._by_strength[min(max(round(strength), 0), STRONGEST)] for strength in drawn]

        def apply(image: Tensor) -> Tensor:
            for operation in chain:
                image = cast(Tensor, operation(image))
            return image

        return applied(apply, image, random) if chain else image


class AutoAugment(_Policy):
    """A pair of operations, drawn for each image from the 25 pairs of a learned policy, each with its own probability.

    Cubuk et al. 2019 (arXiv 1805.09501), appendix, as torchvision has them. [C, H, W] both ways, C 1 or 3.

    Args:
        policy: the data that it was learned on
        fill: level where an operation leaves no image
    """

    def __init__(
        self, *, policy: AutoAugmentPolicy = AutoAugmentPolicy.IMAGENET, fill: Annotated[int, Ge(0), Le(255)] = 128
    ) -> None:
        self.policy, self.fill = policy, fill
        self._apply: Apply = v2.AutoAugment(policy=v2.AutoAugmentPolicy(policy.value), fill=fill)

    def __call__(self, image: Image, random: Random) -> Image:
        return applied(self._apply, image, random)


class TorchvisionTransform(Transform):
    """A transform of torchvision.transforms.v2 by the name of its class, from uint8 image to uint8 image.

    For RandomErasing, RandomRotation, TrivialAugmentWide, JPEG and others; what has a class here is faster. Those
    that give floats, need labels or boxes, or take functions cannot be used. Raises ValueError for another name and
    for arguments that the class does not take or refuses.

    Args:
        name: the class, as "RandomErasing"
        args: its arguments by name; a value of InterpolationMode by its text, as "bilinear"; null: its defaults
        size: side of the square that it gives, if it does: what stacks views needs to know; null: not given here
    """

    def __init__(
        self, *, name: str, args: Optional[dict[str, Value]] = None, size: Optional[Annotated[int, Gt(0)]] = None
    ) -> None:
        self.name, self.args, self.size = name, args, size
        refuse(_faults(name, args or {}))
        self._apply = _built(name, args or {})

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        faults = list(_faults(config.name, config.args or {}))
        yield from faults or _trial(config.name, config.args or {}, config.size, facts.num_channels or 3)

    def __call__(self, image: Image, random: Random) -> Image:
        return applied(self._apply, image, random)


def _classes() -> dict[str, Callable[..., Apply]]:
    found = {name: value for name, value in sorted(vars(v2).items()) if inspect.isclass(value) and name != "Transform"}
    return {name: value for name, value in found.items() if issubclass(value, v2.Transform)}


def _built(name: str, args: Mapping[str, Value]) -> Apply:
    """The transform, not yet tried. Raises TypeError or ValueError for what its class refuses."""
    mode = args.get("interpolation")
    modes = {"interpolation": v2.InterpolationMode(mode)} if isinstance(mode, str) else {}
    return _classes()[name](**{**args, **modes})


def _faults(name: str, args: Mapping[str, Value]) -> Iterator[Problem]:
    """What can be said without an image."""
    known = _classes()
    if name not in known:
        yield Problem("name", f"torchvision.transforms.v2 has no {name!r}{nearest(name, list(known))}")
        return
    taken = list(inspect.signature(known[name]).parameters)
    if wrong := [key for key in args if key not in taken]:
        for key in wrong:
            yield Problem(f"args.{key}", f"{name} has no such argument{nearest(key, taken)}")
        return
    try:
        _built(name, args)
    except (TypeError, ValueError) as error:
        yield Problem("args", f"{name} refuses {dict(args)}: {brief(str(error))}")


def _trial(name: str, args: Mapping[str, Value], size: Optional[int], channels: int) -> Iterator[Problem]:
    """What one image tells: that it is refused, or that what comes out is no image of the stated size."""
    image = torch.zeros(channels, TRIAL_SIDE, TRIAL_SIDE, dtype=torch.uint8)
    try:
        with torch.random.fork_rng(devices=[]):
            result = _built(name, args)(image)
    except Exception as error:  # whatever torchvision raises is about these arguments
        square = f"an image of {channels} channels and {TRIAL_SIDE} x {TRIAL_SIDE} pixels"
        yield Problem("", f"{name} cannot be applied to {square}: {type(error).__name__}: {brief(str(error))}")
        return
    if not isinstance(result, Tensor) or result.dtype != torch.uint8 or result.ndim != 3:
        got = f"{result.dtype} of shape {list(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
        yield Problem("name", f"{name} gives {got}: transforms are from uint8 image to uint8 image")
    elif size is not None and list(result.shape[1:]) != [size, size]:
        yield Problem("size", f"is {size}, and {name} gives {list(result.shape[1:])}")


RandAugmentConf = config_for(RandAugment)
AutoAugmentConf = config_for(AutoAugment)
TorchvisionTransformConf = config_for(TorchvisionTransform)
