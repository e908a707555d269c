"""Solarize, posterize, sharpness and autocontrast: Pillow's numbers, and how often and how strongly they are drawn."""

import numpy as np
import pytest
import torch
from facts import FACTS
from PIL import Image as Pillow
from PIL import ImageEnhance, ImageOps
from scipy import stats

from ssltyped.transforms.opencv import Array, to_array, to_image
from ssltyped.transforms.photometric import RandomPhotometric, Solarize, autocontrast, posterize, sharpen, solarize

NOISE: Array = np.random.default_rng(0).integers(20, 231, (20, 30, 3), dtype=np.uint8)
PICTURE = Pillow.fromarray(NOISE)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("threshold", [0, 1, 100, 128, 255, 256])
def test_solarize_as_pillow(threshold: int) -> None:
    assert np.array_equal(solarize(NOISE, threshold), np.array(ImageOps.solarize(PICTURE, threshold)))


@pytest.mark.parametrize("bits", range(1, 9))
def test_posterize_as_pillow(bits: int) -> None:
    assert np.array_equal(posterize(NOISE, bits), np.array(ImageOps.posterize(PICTURE, bits)))


@pytest.mark.parametrize("factor", [0.0, 0.1, 0.5, 1.0, 1.5, 1.9])
def test_sharpness_as_pillow(factor: float) -> None:
    expected = np.array(ImageEnhance.Sharpness(PICTURE).enhance(factor)).astype(int)
    assert np.abs(sharpen(NOISE, factor).astype(int) - expected).max() <= 1


def test_autocontrast_as_pillow() -> None:
    channels = NOISE.copy()
    channels[..., 1] = 77
    for array in (NOISE, channels):
        expected = np.array(ImageOps.autocontrast(Pillow.fromarray(array))).astype(int)
        assert np.abs(autocontrast(array).astype(int) - expected).max() <= 1
    assert (autocontrast(NOISE).min(), autocontrast(NOISE).max()) == (0, 255)


def test_drawn_thresholds_are_uniform_and_a_fixed_one_is_fixed() -> None:
    """A ramp shows where it was cut: as many levels stay as the threshold says."""
    ramp = to_image(np.arange(256, dtype=np.uint8).reshape(16, 16, 1))
    draw = rng(1)
    kept = [int((Solarize(p=1.0)(ramp, draw) == ramp).sum()) for _ in range(2000)]
    assert {min(kept), max(kept)} <= {0, 1, 2, 254, 255, 256}
    assert stats.kstest((np.array(kept) + rng(2).random(2000)) / 257, "uniform").pvalue > 1e-3
    assert torch.equal(Solarize(p=1.0, threshold=128)(ramp, draw), torch.where(ramp >= 128, 255 - ramp, ramp))


@pytest.mark.parametrize("kind", [Solarize, RandomPhotometric])
def test_probability(kind: type[Solarize] | type[RandomPhotometric]) -> None:
    image, draw = to_image(NOISE[:6, :6]), rng(3)
    assert torch.equal(kind(p=0.0)(image, draw), image)
    changed = sum(not torch.equal(kind(p=0.5)(image, draw), image) for _ in range(1000)) / 1000
    assert abs(changed - 0.5) < 0.06


def test_all_four_one_after_another() -> None:
    """The same draws by Pillow's operations."""
    for seed in range(20):
        draw = rng(seed)
        draw.random()
        picture = ImageOps.posterize(PICTURE, int(draw.integers(4, 9)))
        picture = ImageEnhance.Sharpness(picture).enhance(draw.uniform(0.1, 1.9))
        before = np.array(ImageOps.solarize(picture, int(draw.integers(257))))
        got = to_array(RandomPhotometric(p=1.0)(to_image(NOISE), rng(seed)))
        expected = np.array(ImageOps.autocontrast(Pillow.fromarray(before))).astype(int)
        # One level before autocontrast, or at the threshold of solarize, is more after it, in few pixels.
        assert np.median(np.abs(got.astype(int) - expected)) <= 4


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_any_number_of_channels_and_the_input_stays(channels: int) -> None:
    image = to_image(rng().integers(0, 256, (9, 7, channels), dtype=np.uint8))
    before = image.clone()
    assert RandomPhotometric(p=1.0)(image, rng()).shape == Solarize(p=1.0)(image, rng()).shape == image.shape
    assert torch.equal(image, before)
    assert RandomPhotometric(p=1.0)(to_image(np.zeros((1, 1, channels), dtype=np.uint8)), rng()).shape[0] == channels


def test_a_threshold_without_effect_is_a_problem() -> None:
    assert [problem.path for problem in Solarize.problems(Solarize(threshold=256), FACTS)] == ["threshold"]
    assert not list(Solarize.problems(Solarize(threshold=128), FACTS))
    assert not list(Solarize.problems(Solarize(), FACTS))
