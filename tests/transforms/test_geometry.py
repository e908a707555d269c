import numpy as np
import pytest
import torch
from facts import FACTS
from PIL import Image as Pillow
from scipy import stats
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from ssltyped.transforms.geometry import (
    CenterCrop,
    HorizontalFlip,
    PasteOnCanvas,
    RandomResizedCrop,
    Resize,
    ResizeLargerSide,
    resize,
)
from ssltyped.transforms.opencv import to_array, to_image
from ssltyped.types import Image


def photo(height: int, width: int, seed: int = 0) -> Image:
    """A smooth image: what resampling kernels agree on."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return to_image(np.array(Pillow.fromarray(coarse).resize((width, height), Pillow.Resampling.BICUBIC)))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_crop_is_a_resized_part_of_the_image() -> None:
    image, crop = photo(120, 160), RandomResizedCrop(size=32)
    top, left, height, width = crop.box(120, 160, rng(3))
    expected = functional.resized_crop(image, top, left, height, width, [32, 32], antialias=True)
    got = crop(image, rng(3))
    assert got.shape == (3, 32, 32)
    assert (got.int() - expected.int()).abs().float().mean() < 1.0
    assert (got.int() - expected.int()).abs().max() <= 8


def test_crop_boxes_are_distributed_as_those_of_torchvision() -> None:
    torch.manual_seed(0)
    crop, draw, image = RandomResizedCrop(size=8), rng(1), torch.zeros(3, 90, 140, dtype=torch.uint8)
    reference = v2.RandomResizedCrop(8)
    ours = np.array([crop.box(90, 140, draw) for _ in range(3000)])
    values = [reference.make_params([image]) for _ in range(3000)]
    theirs = np.array([[value[key] for key in ("top", "left", "height", "width")] for value in values])
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-3
    assert stats.ks_2samp(ours[:, 2] / ours[:, 3], theirs[:, 2] / theirs[:, 3]).pvalue > 1e-3


def test_crop_of_an_extreme_image_is_central_and_of_an_allowed_ratio() -> None:
    top, left, height, width = RandomResizedCrop(size=8, scale=(1.0, 1.0)).box(10, 1000, rng())
    assert (height, width) == (10, 13)
    assert (top, left) == (0, (1000 - 13) // 2)
    top, left, height, width = RandomResizedCrop(size=8, scale=(1.0, 1.0)).box(1000, 9, rng())
    assert (height, width) == (12, 9)


def test_crop_of_one_pixel() -> None:
    image = to_image(np.full((1, 1, 3), 7, dtype=np.uint8))
    assert torch.equal(RandomResizedCrop(size=4)(image, rng()), torch.full((3, 4, 4), 7, dtype=torch.uint8))


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_crop_and_flip_of_any_number_of_channels(channels: int) -> None:
    image = to_image(rng().integers(0, 256, (20, 30, channels), dtype=np.uint8))
    assert RandomResizedCrop(size=8)(image, rng()).shape == (channels, 8, 8)
    assert torch.equal(HorizontalFlip(p=1.0)(image, rng()), image.flip(2))


def test_crop_names_wrong_ranges() -> None:
    wrong = RandomResizedCrop(size=8, scale=(0.5, 0.2), ratio=(0.0, 1.0))
    assert [problem.path for problem in wrong.problems(wrong, FACTS)] == ["scale", "ratio"]
    assert not list(RandomResizedCrop.problems(RandomResizedCrop(size=8), FACTS))


def test_flip_has_its_probability() -> None:
    image, draw = photo(4, 5), rng(0)
    flips = sum(torch.equal(HorizontalFlip(p=0.3)(image, draw), image.flip(2)) for _ in range(2000))
    assert abs(flips / 2000 - 0.3) < 0.04
    assert torch.equal(HorizontalFlip(p=0.0)(image, draw), image)


@pytest.mark.parametrize("height, width", [(100, 151), (151, 100), (30, 41), (64, 64)])
def test_resize_puts_the_shorter_side_at_size(height: int, width: int) -> None:
    image = photo(height, width)
    expected = functional.resize(image, [64], antialias=True)
    got = Resize(size=64)(image, rng())
    assert got.shape == expected.shape
    assert (got.int() - expected.int()).abs().float().mean() < 1.0


def test_resize_averages_when_it_shrinks() -> None:
    noise = rng().integers(0, 256, (64, 64, 3), dtype=np.uint8)
    expected = noise.reshape(16, 4, 16, 4, 3).mean((1, 3))
    assert np.abs(resize(noise, 16, 16) - expected).max() <= 0.51


@pytest.mark.parametrize("height, width", [(9, 12), (11, 8), (8, 8)])
def test_center_crop_is_that_of_torchvision(height: int, width: int) -> None:
    image = photo(height, width)
    assert torch.equal(CenterCrop(size=8)(image, rng()), functional.center_crop(image, [8]))


def test_center_crop_of_a_small_image_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"size=8.*7 x 20"):
        CenterCrop(size=8)(photo(7, 20), rng())


def test_input_is_left_as_it_was() -> None:
    image = photo(20, 30)
    before = to_array(image).copy()
    for transform in (RandomResizedCrop(size=8), HorizontalFlip(p=1.0), Resize(size=10), CenterCrop(size=8)):
        transform(image, rng())
    assert np.array_equal(to_array(image), before)


@pytest.mark.parametrize(
    "height, width, size", [(20, 30, 16), (30, 20, 16), (9, 10, 10), (64, 48, 100), (7, 200, 10), (1, 300, 4)]
)
def test_larger_side_as_pillow(height: int, width: int, size: int) -> None:
    noise = rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    got = ResizeLargerSide(size=size)(to_image(noise), rng())
    sides = [max(1, round(side * size / max(height, width))) for side in (height, width)]
    expected = np.array(Pillow.fromarray(noise).resize((sides[1], sides[0]), Pillow.Resampling.BILINEAR))
    assert got.shape == (3, *sides)
    assert max(got.shape[1:]) == size
    assert np.abs(to_array(got).astype(int) - expected).max() <= 1
    assert got.permute(1, 2, 0).is_contiguous()


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_larger_side_of_any_number_of_channels(channels: int) -> None:
    image = to_image(rng().integers(0, 256, (20, 30, channels), dtype=np.uint8))
    assert ResizeLargerSide(size=15)(image, rng()).shape == (channels, 10, 15)


@pytest.mark.parametrize("top, left", [(0, 0), (2, 3), (-1, 4), (5, -2), (9, 0), (-9, 0)])
def test_paste_on_canvas(top: int, left: int) -> None:
    small = photo(4, 6)
    got = PasteOnCanvas(size=8, top=top, left=left)(small, rng())
    for i in range(8):
        for j in range(8):
            inside = 0 <= i - top < 4 and 0 <= j - left < 6
            want = small[:, i - top, j - left] if inside else torch.zeros(3, dtype=torch.uint8)
            assert torch.equal(got[:, i, j], want)
