"""What holds for every trunk, whatever its layers."""

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from ssltyped.trunks.base import InputColor, StagedTrunk
from ssltyped.types import Features

T = TypeVar("T", bound=StagedTrunk)


def images(size: int, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))


def check_features(trunk: StagedTrunk, size: int) -> dict[str, Tensor]:
    """All features in one pass: their widths, their order reversed, and each one alone; returns them."""
    trunk = trunk.eval()
    names = list(trunk.feature_dims)
    with torch.no_grad():
        together = trunk(images(size), names)
        backwards = trunk(images(size), [*names[::-1], names[0]])
        alone = [trunk(images(size), [name])[0] for name in names]
    torch.testing.assert_close(backwards, [*together[::-1], together[0]], rtol=0, atol=0)
    torch.testing.assert_close(alone, together, rtol=0, atol=0)
    assert [x.shape[1] for x in together] == list(trunk.feature_dims.values())
    return dict(zip(names, together, strict=True))


def check_colors(make: Callable[[InputColor, int], StagedTrunk], size: int) -> None:
    """BGR is RGB of flipped images, LAB sees the first channel only, and there may be five channels."""
    rgb, bgr = make(InputColor.RGB, 3).eval(), make(InputColor.BGR, 3).eval()
    bgr.load_state_dict(rgb.state_dict())
    last = list(rgb.feature_dims)[-1]
    torch.testing.assert_close(bgr(images(size), [last]), rgb(images(size).flip(1), [last]), rtol=0, atol=0)
    lab = make(InputColor.LAB, 3).eval()
    changed = images(size) + torch.tensor([0.0, 1.0, 2.0]).view(3, 1, 1)
    torch.testing.assert_close(lab(changed, [last]), lab(images(size), [last]), rtol=0, atol=0)
    assert make(InputColor.RGB, 5)(images(size, 5), [last])[0].shape[0] == 2


def step(trunk: StagedTrunk, features: list[str], size: int) -> tuple[Features, list[Tensor], dict[str, Tensor]]:
    """Features, gradients and the state afterwards of two passes and one backward pass in training."""
    torch.manual_seed(7)
    found = [x for scale in (1.0, 2.0) for x in trunk.train()(images(size) * scale, features)]
    torch.autograd.backward(torch.stack([x.square().mean() for x in found]).sum())
    gradients = [parameter.grad for parameter in trunk.parameters() if parameter.grad is not None]
    return [x.detach() for x in found], gradients, trunk.state_dict()


def check_checkpointing(make: Callable[[int], StagedTrunk], size: int, features: list[str]) -> None:
    """Numbers do not change, bitwise: features, gradients and running statistics."""
    plain, split = make(0), make(3)
    split.load_state_dict(copy.deepcopy(plain.state_dict()))
    torch.testing.assert_close(step(split, features, size), step(plain, features, size), rtol=0, atol=0)
