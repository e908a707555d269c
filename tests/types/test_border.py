import dataclasses
from collections.abc import Callable, Sequence
from typing import Optional, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from ssltyped.types import Batch, Image, Promise, Random, ViewMaker, Views, check_batch, check_image

PIXELS = torch.zeros(3, 4, 4, dtype=torch.uint8)
PROMISE = Promise([(4, 4), (4, 4)], [(2, 2), None], 3)
MASK = np.zeros((2, 2), dtype=bool)
VIEWS = Views([PIXELS, PIXELS], label=1, masks=[MASK, None])


def test_an_image_passes() -> None:
    check_image(PIXELS, "it")
    check_image(torch.zeros(1, 1, 1, dtype=torch.uint8), "it")


def test_an_image_elsewhere_is_none() -> None:
    with pytest.raises(
        ValueError, match=r"it gave a torch.uint8 tensor \[3, 4, 4\] on meta; an image is .* on the CPU"
    ):
        check_image(PIXELS.to("meta"), "it")


class Maker(ViewMaker):
    crop_sizes = (4, 4)

    @property
    def mask_grids(self) -> Sequence[Optional[tuple[int, int]]]:
        return [(2, 2), None]

    @property
    def num_classes(self) -> int:
        return 3

    def __call__(self, image: Image, random: Callable[[int], Random]) -> Views:
        return VIEWS


def test_a_promise_is_what_the_maker_says() -> None:
    assert Promise.of(Maker()) == PROMISE
    PROMISE.check(VIEWS, "it")


@pytest.mark.parametrize(
    "views, message",
    [
        ([PIXELS, PIXELS], r"gave a builtins\.list; a view maker gives ssltyped\.types\.Views"),
        (dataclasses.replace(VIEWS, images=[PIXELS]), "views of 4 x 4; its crop_sizes say 4 x 4, 4 x 4"),
        (dataclasses.replace(VIEWS, images=[PIXELS, PIXELS / 255]), r"it, view 1, gave a torch\.float32"),
        (dataclasses.replace(VIEWS, images=[PIXELS[:, :3], PIXELS]), "views of 3 x 4, 4 x 4; its crop_sizes say 4 x 4"),
        (dataclasses.replace(VIEWS, masks=[]), "masks of no view; its mask_grids say 2 x 2, none"),
        (dataclasses.replace(VIEWS, masks=[MASK, MASK]), "masks of 2 x 2, 2 x 2; its mask_grids say 2 x 2, none"),
        (dataclasses.replace(VIEWS, masks=[MASK.astype(float), None]), r"float64 numpy array \[2, 2\] as a mask"),
        (dataclasses.replace(VIEWS, label=None), "label None; its num_classes allow 0 to 2"),
        (dataclasses.replace(VIEWS, label=3), "label 3; its num_classes allow 0 to 2"),
        (dataclasses.replace(VIEWS, label=cast(int, 0.5)), r"label 0\.5; its num_classes allow"),
    ],
)
def test_broken_promises(views: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PROMISE.check(views, "it")


def test_a_label_that_was_not_promised() -> None:
    with pytest.raises(ValueError, match="the label 0; its num_classes say there is none"):
        Promise([(4, 4)], [], None).check(Views([PIXELS], label=0), "it")


BATCH = Batch(views=(torch.zeros(2, 3, 4, 4),), index=torch.arange(2), label=torch.zeros(2, 5))


@pytest.mark.parametrize(
    "batch, message",
    [
        ((torch.zeros(2, 3, 4, 4), None), r"a builtins\.tuple; a collator gives ssltyped\.types\.Batch"),
        (dataclasses.replace(BATCH, views=(PIXELS[None].expand(2, 3, 4, 4),)), r"torch\.uint8 tensor .* as view 0"),
        (dataclasses.replace(BATCH, index=torch.arange(3)), r"\[2, 3, 4, 4\] as view 0; .* B is 3 by the index"),
        (dataclasses.replace(BATCH, views=(torch.zeros(2, 3, 4),)), r"\[2, 3, 4\] as view 0"),
        (dataclasses.replace(BATCH, label=torch.zeros(3)), r"\[3\] as label; B is 2"),
        (dataclasses.replace(BATCH, label=cast(Tensor, [0, 1])), "list as label"),
        (dataclasses.replace(BATCH, masks=(None, None)), "2 masks for 1 views"),
    ],
)
def test_what_is_no_batch(batch: object, message: str) -> None:
    check_batch(BATCH, "it")
    with pytest.raises(ValueError, match=f"it gave .*{message}"):
        check_batch(batch, "it")
