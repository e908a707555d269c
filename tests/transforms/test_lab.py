"""ToLab: the colour space by its formula, and the constants that make the network's values of it."""

import dataclasses

import numpy as np
import pytest
import torch
from facts import FACTS
from jaxtyping import Float64

from ssltyped.transforms.lab import LAB_MEAN, LAB_STD, ToLab
from ssltyped.transforms.opencv import Array, to_image

NOISE = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


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
    levels = ToLab()(to_image(NOISE), np.random.default_rng(0)).float()
    mean, std = torch.tensor(LAB_MEAN)[:, None, None], torch.tensor(LAB_STD)[:, None, None]
    got = ((levels / 255 - mean) / std).permute(1, 2, 0).numpy()
    want = by_formula(NOISE)
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
