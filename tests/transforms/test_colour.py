import dataclasses

import numpy as np
import pytest
import torch
from facts import FACTS
from jaxtyping import Float64
from PIL import Image as Pillow
from PIL import ImageEnhance, ImageOps
from scipy import stats
from torchvision.transforms import functional as pillow
from torchvision.transforms.v2 import functional

from ssltyped.transforms.colour import (
    LAB_MEAN,
    LAB_STD,
    ColorDistortion,
    ColorJitter,
    RandomGrayscale,
    RandomPhotometric,
    Solarize,
    ToLab,
    autocontrast,
    brighten,
    contrast,
    grey,
    posterize,
    saturate,
    sharpen,
    shift_hue,
    solarize,
)
from ssltyped.transforms.opencv import Array, to_array, to_image
from ssltyped.types import Transform

NOISE: Array = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def worst(array: Array, expected: Array) -> int:
    return int(np.abs(array.astype(int) - expected).max())


@pytest.mark.parametrize("factor", [0.0, 0.2, 0.9, 1.0, 1.3, 1.8])
def test_factors_as_pillow_and_torchvision(factor: float) -> None:
    image, tensor = Pillow.fromarray(NOISE), to_image(NOISE)
    for ours, name in ((brighten, "brightness"), (contrast, "contrast"), (saturate, "saturation")):
        got = ours(NOISE, factor)
        assert worst(got, np.array(getattr(pillow, f"adjust_{name}")(image, factor))) <= 1, name
        assert worst(got, to_array(getattr(functional, f"adjust_{name}")(tensor, factor))) <= 2, name


@pytest.mark.parametrize("shift", [-0.5, -0.2, -0.05, 0.0, 0.1, 0.2, 0.5])
def test_hue_is_exact_to_eight_bits(shift: float) -> None:
    exact = to_array(functional.adjust_hue(to_image(NOISE), shift)).astype(int)
    difference = np.abs(shift_hue(NOISE, shift).astype(int) - exact)
    assert difference.max() <= 10
    assert difference.mean() < 1


def test_grey_as_pillow() -> None:
    expected = np.array(Pillow.fromarray(NOISE).convert("L").convert("RGB"))
    assert worst(grey(NOISE), expected) <= 1


def test_jitter_of_no_strength_changes_nothing() -> None:
    still = ColorJitter(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, p=1.0)
    assert torch.equal(still(to_image(NOISE), rng()), to_image(NOISE))


def test_jitter_factors_are_uniform() -> None:
    """On a white pixel, brightness f gives 255 f."""
    white, draw = to_image(np.full((1, 1, 3), 200, dtype=np.uint8)), rng(2)
    jitter = ColorJitter(brightness=0.25, contrast=0.0, saturation=0.0, hue=0.0, p=1.0)
    values = [float(jitter(white, draw)[0, 0, 0]) for _ in range(1500)]
    assert stats.kstest((np.array(values) - 150) / 100, "uniform").pvalue > 1e-4


def test_jitter_orders_are_random() -> None:
    """Darkening and greying do not commute with contrast: one seed gives one of several results of fixed factors."""
    jitter = ColorJitter(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, p=1.0)
    first = {int(np.random.default_rng(seed).permutation(4)[0]) for seed in range(50)}
    results = [jitter(to_image(NOISE), rng(seed)) for seed in range(8)]
    assert first == {0, 1, 2, 3}
    assert len({tuple(result[:, 0, 0].tolist()) for result in results}) == 8
    assert torch.equal(results[0], jitter(to_image(NOISE), rng(0)))


def test_probabilities() -> None:
    image, draw = to_image(NOISE[:4, :4]), rng(5)
    jittered = sum(not torch.equal(ColorJitter()(image, draw), image) for _ in range(1500)) / 1500
    greyed = sum(not torch.equal(RandomGrayscale()(image, draw), image) for _ in range(1500)) / 1500
    assert abs(jittered - 0.8) < 0.05
    assert abs(greyed - 0.2) < 0.05


def test_distortion_is_jitter_then_grey() -> None:
    image, draw = to_image(NOISE[:6, :6]), rng(7)
    distorted = [ColorDistortion(strength=1.0)(image, draw) for _ in range(800)]
    greys = sum(torch.equal(d[0], d[1]) and torch.equal(d[1], d[2]) for d in distorted) / 800
    same = sum(torch.equal(d, image) for d in distorted) / 800
    assert abs(greys - 0.2) < 0.06
    assert abs(same - 0.2 * 0.8) < 0.06
    assert not any(torch.equal(d, image) for d in [ColorJitter(p=1.0)(image, draw)])


def test_strength_zero_only_greys() -> None:
    image, draw = to_image(NOISE[:6, :6]), rng(8)
    grey_image = to_image(grey(NOISE[:6, :6]))
    for _ in range(30):
        got = ColorDistortion(strength=0.0)(image, draw)
        assert torch.equal(got, image) or torch.equal(got, grey_image)


def test_other_channels_are_an_error() -> None:
    image = to_image(np.zeros((4, 4, 6), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"3 channels.*got 6"):
        RandomGrayscale(p=1.0)(image, rng())
    with pytest.raises(ValueError, match=r"3 channels.*got 6"):
        ColorJitter(p=1.0)(image, rng())


def test_input_is_left_as_it_was() -> None:
    before = NOISE.copy()
    for seed in range(5):
        ColorDistortion()(to_image(NOISE), rng(seed))
    assert np.array_equal(NOISE, before)


@pytest.mark.parametrize("transform", [ColorJitter(), RandomGrayscale(), ColorDistortion()])
def test_other_channels_are_a_problem_before_the_run(transform: Transform) -> None:
    for channels, problems in ((None, 0), (3, 0), (1, 1), (6, 1)):
        found = list(transform.problems(transform, dataclasses.replace(FACTS, num_channels=channels)))
        assert len(found) == problems
    assert "the images have 6" in found[0].message


COLOURS: Array = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


def by_formula(rgb: Array) -> Float64[np.ndarray, "H W C"]:
    """CIE 1976 L*, a*, b* of sRGB, white point D65."""
    levels = rgb / 255
    light = np.where(levels > 0.04045, ((levels + 0.055) / 1.055) ** 2.4, levels / 12.92)
    to_xyz = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
    xyz = light @ to_xyz.T / np.array([0.950456, 1.0, 1.088754])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def test_normalized_it_is_the_formula_to_one_quantisation_step() -> None:
    levels = ToLab()(to_image(COLOURS), np.random.default_rng(0)).float()
    mean, std = torch.tensor(LAB_MEAN)[:, None, None], torch.tensor(LAB_STD)[:, None, None]
    got = ((levels / 255 - mean) / std).permute(1, 2, 0).numpy()
    want = by_formula(COLOURS)
    assert np.abs(got[..., 0] - (want[..., 0] - 50)).max() <= 100 / 255 * 1.05
    assert np.abs(got[..., 1:] - want[..., 1:]).max() <= 1.01


def test_white_black_and_grey() -> None:
    greys = to_image(np.stack([np.full((1, 1, 3), level, dtype=np.uint8) for level in (0, 119, 255)]).reshape(1, 3, 3))
    lightness, a, b = ToLab()(greys, np.random.default_rng(0))[:, 0].tolist()
    assert (lightness, a, b) == ([0, 128, 255], [128] * 3, [128] * 3)


def test_other_channels() -> None:
    six = to_image(np.zeros((4, 4, 6), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"3 channels.*got 6"):
        ToLab()(six, np.random.default_rng(0))
    assert len(list(ToLab.problems(ToLab(), dataclasses.replace(FACTS, num_channels=6)))) == 1
    assert not list(ToLab.problems(ToLab(), FACTS))


MIDDLE: Array = np.random.default_rng(0).integers(20, 231, (20, 30, 3), dtype=np.uint8)
PICTURE = Pillow.fromarray(MIDDLE)


@pytest.mark.parametrize("threshold", [0, 1, 100, 128, 255, 256])
def test_solarize_as_pillow(threshold: int) -> None:
    assert np.array_equal(solarize(MIDDLE, threshold), np.array(ImageOps.solarize(PICTURE, threshold)))


@pytest.mark.parametrize("bits", range(1, 9))
def test_posterize_as_pillow(bits: int) -> None:
    assert np.array_equal(posterize(MIDDLE, bits), np.array(ImageOps.posterize(PICTURE, bits)))


@pytest.mark.parametrize("factor", [0.0, 0.1, 0.5, 1.0, 1.5, 1.9])
def test_sharpness_as_pillow(factor: float) -> None:
    expected = np.array(ImageEnhance.Sharpness(PICTURE).enhance(factor)).astype(int)
    assert np.abs(sharpen(MIDDLE, factor).astype(int) - expected).max() <= 1


def test_autocontrast_as_pillow() -> None:
    channels = MIDDLE.copy()
    channels[..., 1] = 77
    for array in (MIDDLE, channels):
        expected = np.array(ImageOps.autocontrast(Pillow.fromarray(array))).astype(int)
        assert np.abs(autocontrast(array).astype(int) - expected).max() <= 1
    assert (autocontrast(MIDDLE).min(), autocontrast(MIDDLE).max()) == (0, 255)


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
    image, draw = to_image(MIDDLE[:6, :6]), rng(3)
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
        got = to_array(RandomPhotometric(p=1.0)(to_image(MIDDLE), rng(seed)))
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
