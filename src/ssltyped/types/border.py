"""What a plug-in gives, looked at where it comes in: a wrong type there is a wrong number later on."""

import dataclasses
from collections.abc import Sequence
from typing import Optional, Self

import numpy as np
import torch
from torch import Tensor

from ssltyped.types.parts import ViewMaker
from ssltyped.types.values import Batch, Views

IMAGE = "an image is a torch.uint8 tensor [C, H, W] on the CPU, with values 0 to 255"


def described(value: object) -> str:
    """A value in words: its type, and of an array also what it holds and its shape."""
    if isinstance(value, Tensor | np.ndarray):
        kind = "tensor" if isinstance(value, Tensor) else "numpy array"
        place = f" on {value.device}" if isinstance(value, Tensor) and value.device.type != "cpu" else ""
        return f"a {value.dtype} {kind} {list(value.shape)}{place}"
    if value is None or isinstance(value, int | float | str):
        return repr(value)
    return f"a {type(value).__module__}.{type(value).__qualname__}"


def check_image(value: object, giver: str) -> None:
    """Raises ValueError for anything but an image with pixels; `giver` says whose it is."""
    is_image = isinstance(value, Tensor) and value.dtype == torch.uint8 and value.ndim == 3
    if not (is_image and isinstance(value, Tensor) and value.numel() and value.device.type == "cpu"):
        raise ValueError(f"{giver} gave {described(value)}; {IMAGE}{_remedy(value)}")


def _remedy(value: object) -> str:
    """What to write instead, where the type tells."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return "; for values 0 to 1 give (image * 255).round().to(torch.uint8)"
    if isinstance(value, Tensor) and value.dtype == torch.uint16:
        return "; for values 0 to 65535 give (image.int() // 257).to(torch.uint8)"
    if isinstance(value, np.ndarray):
        return "; for uint8 [H, W, C] give ssltyped.transforms.opencv.to_image(array)"
    if type(value).__module__.startswith("PIL."):
        return "; give ssltyped.transforms.opencv.to_image(numpy.asarray(image.convert('RGB')))"
    return ""


@dataclasses.dataclass(frozen=True)
class Promise:
    """What a view maker says of the views that it makes.

    Args:
        sides: height and width of each view
        grids: rows and columns of the mask of each view, or None; empty if no view has one
        num_classes: labels of a pretext task; None: the views have no label of their own
    """

    sides: Sequence[tuple[int, int]]
    grids: Sequence[Optional[tuple[int, int]]]
    num_classes: Optional[int]

    @classmethod
    def of(cls, maker: ViewMaker) -> Self:
        return cls([(size, size) for size in maker.crop_sizes], list(maker.mask_grids), maker.num_classes)

    def check(self, views: object, giver: str) -> None:
        """Raises ValueError for anything but `Views` as they were promised."""
        if not isinstance(views, Views):
            raise ValueError(f"{giver} gave {described(views)}; a view maker gives ssltyped.types.Views")
        for view, image in enumerate(views.images):
            check_image(image, f"{giver}, view {view},")
        sides = [tuple(image.shape[1:]) for image in views.images]
        if sides != self.sides:
            message = f"its crop_sizes say {_sizes(self.sides)}: end with a crop, or state other sizes"
            raise ValueError(f"{giver} gave views of {_sizes(sides)}; {message}")
        masks = [mask if mask is None else np.asarray(mask) for mask in views.masks]
        if wrong := [mask for mask in masks if mask is not None and mask.dtype != bool]:
            raise ValueError(f"{giver} gave {described(wrong[0])} as a mask; a mask is a bool numpy array [h, w]")
        grids = [None if mask is None else mask.shape for mask in masks]
        if grids != self.grids:
            raise ValueError(f"{giver} gave masks of {_sizes(grids)}; its mask_grids say {_sizes(self.grids)}")
        most = self.num_classes
        if views.label is not None if most is None else views.label not in range(most):
            allowed = "its num_classes say there is none" if most is None else f"its num_classes allow 0 to {most - 1}"
            raise ValueError(f"{giver} gave the label {described(views.label)}; {allowed}")


def _sizes(sides: Sequence[Optional[tuple[int, ...]]]) -> str:
    return ", ".join("none" if one is None else " x ".join(map(str, one)) for one in sides) or "no view"


def check_batch(batch: object, giver: str) -> None:
    """Raises ValueError for anything but a `Batch` whose floating-point views have as many rows as it has numbers."""
    if not isinstance(batch, Batch):
        raise ValueError(f"{giver} gave {described(batch)}; a collator gives ssltyped.types.Batch")
    rows = len(batch.index)
    for view, images in enumerate(batch.views):
        if not (_has_rows(images, rows) and images.is_floating_point() and images.ndim == 4):
            wanted = f"it is floating-point [B, C, H, W], and B is {rows} by the index"
            raise ValueError(f"{giver} gave {described(images)} as view {view}; {wanted}")
    if batch.label is not None and not _has_rows(batch.label, rows):
        raise ValueError(f"{giver} gave {described(batch.label)} as label; B is {rows} by the index")
    if batch.masks and len(batch.masks) != len(batch.views):
        raise ValueError(f"{giver} gave {len(batch.masks)} masks for {len(batch.views)} views: one a view, or none")


def _has_rows(value: object, rows: int) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) == rows
