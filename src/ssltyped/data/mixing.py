"""Images that are mixed with others of their batch."""

import dataclasses
from collections.abc import Iterable
from enum import Enum
from typing import Annotated, Optional, Self

import numpy as np
import torch
from annotated_types import Ge, Gt, Le, Lt
from jaxtyping import Bool, Float
from torch import Tensor

from ssltyped.config import config_for
from ssltyped.data.targets import classes_of, one_hot
from ssltyped.types import Batch, Collator, Facts, Inference, Problem, Random

SWITCH_PROB = 0.5
"""Share of CutMix if nothing is said."""


class Draw(Enum):
    """For whom the share is drawn: once a batch, once a pair of images, or for each image."""

    BATCH = "batch"
    PAIR = "pair"
    ELEMENT = "element"


class Mix(Collator):
    """Mixup or CutMix of each image with the one at the other end of the batch, and of their labels.

        x_b <- lam_b x_b + (1 - lam_b) x_{B-1-b}      t_b <- lam_b t_b + (1 - lam_b) t_{B-1-b},   lam ~ Beta(a, a)

    CutMix puts a rectangle of the other image, with sides sqrt(1 - lam) of the image's and a centre anywhere, in its
    place; lam is then the share of the image that is left. Every view of an image is mixed with the same share and
    partner, the rectangle at the same relative place. Labels become rows (see `OneHot`); a method that reads no labels
    gets none. Drawn for each rank by itself. Mixup: Zhang et al. 2018, arXiv 1710.09412. CutMix: Yun et al. 2019,
    arXiv 1905.04899. The form with the flipped batch and the defaults are those of DeiT (arXiv 2012.12877).

    Args:
        mixup_alpha: a of mixup; 0: only CutMix.
        cutmix_alpha: a of CutMix; 0: only mixup.
        prob: share of the batches (pairs, images) that are mixed at all.
        switch_prob: share of CutMix, if both are on.
        draw: for whom the share is drawn.
        num_classes: K; null: the width of the model's output, where the method reads labels.
        smoothing: of the labels.
    """

    keeps_classes = True

    def __init__(
        self,
        *,
        mixup_alpha: Annotated[float, Ge(0)] = 1.0,
        cutmix_alpha: Annotated[float, Ge(0)] = 0.0,
        prob: Annotated[float, Ge(0), Le(1)] = 1.0,
        switch_prob: Annotated[float, Ge(0), Le(1)] = SWITCH_PROB,
        draw: Draw = Draw.BATCH,
        num_classes: Optional[Annotated[int, Gt(1)]] = None,
        smoothing: Annotated[float, Ge(0), Lt(1)] = 0.1,
    ) -> None:
        self.mixup_alpha, self.cutmix_alpha, self.prob, self.switch_prob = mixup_alpha, cutmix_alpha, prob, switch_prob
        self.draw, self.num_classes, self.smoothing = draw, num_classes, smoothing

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        labels = facts.uses_labels and facts.train_labelled
        if labels and len(widths := facts.distinct_widths) == 1:
            yield Inference("num_classes", widths[0], "width of the model's outputs", default=True)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if config.num_classes is None and facts.uses_labels and len(widths := facts.distinct_widths) > 1:
            yield Problem("num_classes", f"the outputs are {widths} wide: give the number of classes")
        if not config.mixup_alpha and not config.cutmix_alpha:
            yield Problem("mixup_alpha", "mixup_alpha and cutmix_alpha are both 0: nothing would be mixed")
        if not (config.mixup_alpha and config.cutmix_alpha) and config.switch_prob != SWITCH_PROB:
            yield Problem("switch_prob", "has no effect unless both mixup_alpha and cutmix_alpha are above 0")
        if config.draw is Draw.PAIR and facts.batch_size % 2:
            yield Problem("draw", f"pairs need an even batch a rank; it is {facts.batch_size}")

    def __call__(self, batch: Batch, random: Random) -> Batch:
        shares, cuts, centres = self._drawn(len(batch.index), random)
        kept = [self.kept_pixels(view, shares, cuts, centres) for view in batch.views]
        views = tuple(
            view * part[:, None] + view.flip(0) * (1 - part[:, None])
            for view, part in zip(batch.views, kept, strict=True)
        )
        if batch.label is None or self.num_classes is None:  # the method does not read it
            return dataclasses.replace(batch, views=views, label=None)
        rows = one_hot(classes_of(batch), self.num_classes, self.smoothing)
        share = kept[0].mean(dim=(1, 2))[:, None]  # of the pixels that are there, at the border too
        return dataclasses.replace(batch, views=views, label=rows * share + rows.flip(0) * (1 - share))

    def _drawn(
        self, images: int, random: Random
    ) -> tuple[Float[np.ndarray, "B"], Bool[np.ndarray, "B"], Float[np.ndarray, "B 2"]]:
        """lam of each image, whether it is cut, and the relative centre of its rectangle."""
        count = {Draw.BATCH: 1, Draw.PAIR: images // 2, Draw.ELEMENT: images}[self.draw]
        cuts = random.random(count) < (self.switch_prob if self.mixup_alpha else 1.0)
        cuts &= self.cutmix_alpha > 0
        alphas = np.where(cuts, self.cutmix_alpha, self.mixup_alpha)
        shares = np.where(random.random(count) < self.prob, random.beta(alphas, alphas), 1.0)
        centres = random.random((count, 2))
        if self.draw is Draw.BATCH:
            return shares.repeat(images), cuts.repeat(images), centres.repeat(images, axis=0)
        if self.draw is Draw.PAIR:  # both images of a pair have the same share and rectangle
            shares, cuts = np.concatenate([shares, shares[::-1]]), np.concatenate([cuts, cuts[::-1]])
            centres = np.concatenate([centres, centres[::-1]])
        return shares, cuts, centres

    def kept_pixels(
        self,
        view: Float[Tensor, "B C H W"],
        shares: Float[np.ndarray, "B"],
        cuts: Bool[np.ndarray, "B"],
        centres: Float[np.ndarray, "B 2"],
    ) -> Float[Tensor, "B _ _"]:
        """The weight of each image's own pixels: lam everywhere (one number), or 0 in the rectangle and 1 around it."""
        height, width = view.shape[-2:]
        if not cuts.any():
            return torch.from_numpy(shares.astype(np.float32)).to(view.device, view.dtype)[:, None, None]
        kept = np.ones((len(view), height, width), dtype=np.float32) * np.where(cuts, 1.0, shares)[:, None, None]
        for place in np.flatnonzero(cuts):
            sides = np.sqrt(1 - shares[place]) * np.array([height, width])
            middle = np.floor(centres[place] * [height, width])
            top, left = np.clip(middle - sides // 2, 0, [height, width]).astype(int)
            bottom, right = np.clip(middle + sides // 2, 0, [height, width]).astype(int)
            kept[place, top:bottom, left:right] = 0.0
        return torch.from_numpy(kept.astype(np.float32)).to(view.device, view.dtype)


class PairMixUp(Collator):
    """Two neighbouring images become one: x_i <- lam x_{2i} + (1 - lam) x_{2i+1}, with one lam ~ Beta(a, a) a batch.

    Every view of a pair is mixed with the same lam; the label, number and masks are those of the first image. The batch
    is half as large. Mixup: Zhang et al. 2018, arXiv 1710.09412. Raises ValueError for an odd batch.

    Args:
        alpha: a.
    """

    keeps_classes = True

    def __init__(self, *, alpha: Annotated[float, Gt(0)] = 0.2) -> None:
        self.alpha = alpha

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if facts.batch_size % 2:
            yield Problem("", f"pairs need an even batch a rank; it is {facts.batch_size}")

    def __call__(self, batch: Batch, random: Random) -> Batch:
        return self.merge(batch, float(random.beta(self.alpha, self.alpha)))

    def merge(self, batch: Batch, share: float) -> Batch:
        """The pairs of a batch, with lam given."""
        if len(batch.index) % 2:
            raise ValueError(f"pairs need an even batch; it has {len(batch.index)} images")
        return Batch(
            views=tuple(share * view[::2] + (1 - share) * view[1::2] for view in batch.views),
            index=batch.index[::2],
            label=None if batch.label is None else batch.label[::2],
            masks=tuple(None if mask is None else mask[::2] for mask in batch.masks),
        )


MixConf = config_for(Mix)
PairMixUpConf = config_for(PairMixUp)
