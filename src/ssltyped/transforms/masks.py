"""Which patches of a view are masked."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Annotated, Optional, Self

import numpy as np
from annotated_types import Ge, Gt, Len
from jaxtyping import Bool

from ssltyped.config import build, config_for
from ssltyped.types import PATCH_SIZE, Facts, Image, Problem, Random, ViewMaker, Views

ATTEMPTS = 10
"""Draws of a block that has to fit before the mask is taken as it is, as in BEiT."""

MASKS = 2**30
"""The stream of the mask of view v is this + v: far from those of any view, also of a maker that wraps this one."""

SMALLEST_PART = 3
"""A block has at least (shorter side // this) squared patches, as in BEiT."""


class Shape(Enum):
    """Rectangles of patches, up to the wanted number, or exactly that number of single patches."""

    BLOCKS = "blocks"
    RANDOM = "random"


class MaskedViews(ViewMaker):
    """The views of another maker, some of them with a mask of their patches.

    The share r of masked patches of a view is m + u, u ~ U(-d, d), for a pair (m, d) drawn from `ratios`. BLOCKS:
    rectangles of at least (h // 3)^2 patches, log aspect ratio ~ U(log `aspect`), at any place, until floor(r h w)
    patches are masked or ten draws in a row do not fit (BEiT: Bao et al. 2022, arXiv 2106.08254, algorithm 1; iBOT:
    Zhou et al. 2022, arXiv 2111.07832, section 4.1). RANDOM: floor(r h w) patches (MSN: Assran et al. 2022, arXiv
    2204.07141). The mask of view v draws from `random(2^30 + v)`: the views are those that the maker gives by itself.

    Args:
        views: the maker of the views
        masked: numbers of the views that get a mask; null: all
        patch_size: side of a patch, in pixels
        ratios: pairs of mean and half width of the share of masked patches, one of which is drawn
        shape: blocks or single patches
        aspect: smallest and largest aspect ratio (height / width) of a block
    """

    def __init__(
        self,
        *,
        views: ViewMaker,
        masked: Optional[list[Annotated[int, Ge(0)]]] = None,
        patch_size: Annotated[int, Gt(0)] = 16,
        ratios: Annotated[list[tuple[float, float]], Len(1)] = [(0.3, 0.0)],  # noqa: B006  # never changed
        shape: Shape = Shape.BLOCKS,
        aspect: tuple[float, float] = (0.3, 1 / 0.3),
    ) -> None:
        self.views, self.masked, self.patch_size, self.ratios = views, masked, patch_size, ratios
        self.shape, self.aspect = shape, aspect

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        for number, (mean, spread) in enumerate(config.ratios):
            if not 0 <= mean - spread <= mean + spread < 1:
                yield Problem(f"ratios.{number}", f"is {(mean, spread)}: mean -+ half width must lie in [0, 1)")
        aspect = tuple(config.aspect)
        if not 0 < aspect[0] <= aspect[1]:
            yield Problem("aspect", f"is {aspect}; it must be (smallest, largest) height / width, above 0")
        inner = build(config.views)
        if any(inner.mask_grids):
            yield Problem("views", "makes masks already, which would be lost: say here which views get one")
        made = inner.crop_sizes  # not those of the facts: this may be one maker of several
        chosen = range(len(made)) if config.masked is None else config.masked
        if beyond := [view for view in chosen if view >= len(made)]:
            yield Problem("masked", f"there is no view {beyond[0]}; views are 0 to {len(made) - 1}")
        if config.masked == []:
            yield Problem("masked", "is empty: name the views that get a mask, or leave it out for all")
        if wrong := [made[view] for view in chosen if view < len(made) and made[view] % config.patch_size]:
            yield Problem("patch_size", f"got {config.patch_size}, which does not divide the view's {wrong[0]} pixels")
        if (size := facts.get(PATCH_SIZE)) not in (None, config.patch_size):
            yield Problem("patch_size", f"got {config.patch_size}, but the trunk's patches are {size} pixels wide")

    @property
    def crop_sizes(self) -> Sequence[int]:
        return self.views.crop_sizes

    @property
    def inputs(self) -> Mapping[str, int]:
        return self.views.inputs

    @property
    def num_classes(self) -> Optional[int]:
        return self.views.num_classes

    @property
    def mask_grids(self) -> Sequence[Optional[tuple[int, int]]]:
        sides = [size // self.patch_size for size in self.crop_sizes]
        chosen = range(len(sides)) if self.masked is None else self.masked
        return [(side, side) if view in chosen else None for view, side in enumerate(sides)]

    def prepare(self) -> None:
        self.views.prepare()

    def __call__(self, image: Image, random: Callable[[int], Random]) -> Views:
        made, grids = self.views(image, random), self.mask_grids
        masks = [grid and self.mask(grid, random(MASKS + view)) for view, grid in enumerate(grids)]
        return Views(made.images, label=made.label, masks=masks)

    def mask(self, grid: tuple[int, int], random: Random) -> Bool[np.ndarray, "h w"]:
        """One mask of a grid of patches."""
        mean, spread = self.ratios[int(random.integers(len(self.ratios)))]
        count = math.floor(grid[0] * grid[1] * (mean + spread * random.uniform(-1, 1)))
        if self.shape is Shape.RANDOM:
            flat = np.zeros(grid[0] * grid[1], dtype=bool)
            flat[random.permutation(len(flat))[:count]] = True
            return flat.reshape(grid)
        mask, failed = np.zeros(grid, dtype=bool), 0
        while mask.sum() < count and failed < ATTEMPTS:
            new = self._with_block(mask, count, random)
            mask, failed = (mask, failed + 1) if new is None else (new, 0)
        return mask

    def _with_block(self, mask: Bool[np.ndarray, "h w"], count: int, random: Random) -> Bool[np.ndarray, "h w"] | None:
        """The mask with one more block; None if it does not fit, adds nothing, or masks more than `count` patches."""
        height, width = mask.shape
        left = count - int(mask.sum())
        area = random.uniform(min(left, (min(mask.shape) // SMALLEST_PART) ** 2), left)
        ratio = math.exp(random.uniform(math.log(self.aspect[0]), math.log(self.aspect[1])))
        h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if not (0 < h <= height and 0 < w <= width):
            return None
        top, start = int(random.integers(height - h + 1)), int(random.integers(width - w + 1))
        new = mask.copy()
        new[top : top + h, start : start + w] = True
        return new if mask.sum() < new.sum() <= count else None


MaskedViewsConf = config_for(MaskedViews)
