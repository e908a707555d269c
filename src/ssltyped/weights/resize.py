"""Positions and patches of one size for a trunk of another."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ssltyped.trunks.vit import resized_positions


def resized(name: str, theirs: Tensor, shape: torch.Size) -> tuple[Tensor, str] | None:
    """Our entry of this name and shape from theirs of another, and how it was made; None if it cannot be made.

    `pos_embed` (1 k+L D), k tokens before a grid of L patches: bicubic between the centres of the patches, as DINO's
    code (Caron et al. 2021, arXiv 2104.14294); k stays. `patch_embed.proj.weight` (D C p p): the weights whose product
    with a resized patch is nearest that of the old ones with the patch (Beyer et al. 2023, arXiv 2212.08013, section
    3.4, as timm does).
    """
    made: tuple[Tensor, str] | None = None
    if name.endswith("pos_embed") and theirs.ndim == len(shape) == 3:
        made = _positions(theirs, shape)
    elif name.endswith("patch_embed.proj.weight") and theirs.ndim == len(shape) == 4 and theirs.shape[:2] == shape[:2]:
        made = _patches(theirs, shape[2]), f"patches of {theirs.shape[2]} to {shape[2]} pixels"
    return None if made is None else (made[0], f"{name}: {made[1]}")


def _positions(theirs: Tensor, shape: torch.Size) -> tuple[Tensor, str] | None:
    first = next((k for k in (1, 0) if _side(theirs.shape[1] - k) and _side(shape[1] - k)), None)
    if first is None or theirs.shape[::2] != shape[::2]:
        return None
    old, new = _side(theirs.shape[1] - first), _side(shape[1] - first)
    patches = resized_positions(theirs[:, first:].float(), (old, old), (new, new)).to(theirs.dtype)
    return torch.cat([theirs[:, :first], patches], dim=1), f"{old} x {old} to {new} x {new} patches"


def _side(count: int) -> int:
    """The side of a square of so many; 0 if there is none."""
    side = math.isqrt(max(count, 0))
    return side if side**2 == count else 0


def _patches(weight: Tensor, size: int) -> Tensor:
    """The least squares solution w of B^T w = old, where B maps a patch, as a column, to the resized one."""
    old = weight.shape[2]
    patches = torch.eye(old**2).reshape(old**2, 1, old, old)
    resizing = F.interpolate(patches, size=(size, size), mode="bicubic", antialias=True).reshape(old**2, size**2)
    made: Tensor = weight.float().flatten(2) @ torch.linalg.pinv(resizing).T
    patches = made.reshape(*weight.shape[:2], size, size)
    return patches.to(weight.dtype)
