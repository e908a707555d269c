from dataclasses import dataclass

import numpy as np
import pytest
import torch
from facts import FACTS
from golden_cases import load_cases, load_tensors
from PIL import Image as Pillow
from PIL import ImageFilter
from scipy import stats

from ssltyped.transforms.blur import BLURS, BlurFilter, GaussianBlur, box_kernel, gaussian, pillow_boxes
from ssltyped.transforms.opencv import Array, to_image


@dataclass
class Case:
    id: str
    radius: float
    atol: float


@pytest.mark.parametrize("case", load_cases("transforms", Case), ids=lambda case: case.id)
def test_golden(case: Case) -> None:
    tensors = load_tensors("transforms")
    radius, boxes = case.radius, BlurFilter.PILLOW_BOXES
    blur = GaussianBlur(p=1.0, radius_min=radius, radius_max=radius, filter=boxes)
    image = tensors[f"{case.id}/in/image"].permute(2, 0, 1)
    got = blur(image, np.random.default_rng(0)).permute(1, 2, 0)
    assert (got.int() - tensors[f"{case.id}/out/image"].int()).abs().max() <= case.atol


@pytest.mark.parametrize("sigma", [0.1, 0.25, 0.4, 0.5, 0.75, 1.0, 1.25, 1.5, 1.9, 2.0, 3.0, 5.0])
def test_within_one_level_of_pillow_up_to_the_border(sigma: float) -> None:
    for seed, shape in enumerate([(20, 22), (64, 48), (7, 9), (33, 128)]):
        noise: Array = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
        expected = np.array(Pillow.fromarray(noise).filter(ImageFilter.GaussianBlur(sigma)))
        assert np.abs(pillow_boxes(noise, sigma).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("sigma", [0.1, 0.25, 0.5, 1.0, 2.0, 5.0])
def test_the_gaussian_is_the_plain_sum_up_to_the_border(sigma: float) -> None:
    for seed, shape in enumerate([(20, 22), (64, 48), (7, 9)]):
        noise: Array = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
        radius = round(6 * sigma + 1) // 2
        weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
        exact = np.pad(noise.astype(float), ((radius, radius), (radius, radius), (0, 0)), mode="edge")
        for axis in (0, 1):
            exact = np.apply_along_axis(np.convolve, axis, exact, weights / weights.sum(), mode="valid")
        assert np.abs(gaussian(noise, sigma) - exact).max() <= 1.5, "its weights are whole numbers of 8 bits"


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 2.0, 7.0])
def test_three_boxes_have_the_variance(sigma: float) -> None:
    kernel = box_kernel(sigma).astype(np.float64)
    places = np.arange(len(kernel)) - len(kernel) // 2
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert 3 * (kernel * places**2).sum() == pytest.approx(sigma**2, rel=1e-3)


def test_sigma_is_uniform_and_p_its_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[float] = []

    def note(array: Array, sigma: float) -> Array:
        drawn.append(sigma)
        return array

    monkeypatch.setitem(BLURS, BlurFilter.GAUSSIAN, note)
    random = np.random.default_rng(1)
    image = to_image(np.zeros((2, 2, 3), dtype=np.uint8))
    for _ in range(2000):
        GaussianBlur(p=0.5, radius_min=0.1, radius_max=2.0)(image, random)
    assert abs(len(drawn) / 2000 - 0.5) < 0.04
    assert stats.kstest((np.array(drawn) - 0.1) / 1.9, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("filter", BlurFilter)
@pytest.mark.parametrize("channels", [1, 2, 6, 13])
def test_any_number_of_channels(channels: int, filter: BlurFilter) -> None:
    image = torch.randint(0, 256, (channels, 9, 10), dtype=torch.uint8)
    whole = GaussianBlur(p=1.0, filter=filter)(image, np.random.default_rng(0))
    for channel in range(channels):
        alone = GaussianBlur(p=1.0, filter=filter)(image[channel : channel + 1], np.random.default_rng(0))
        assert torch.equal(whole[channel : channel + 1], alone)


def test_names_wrong_radii() -> None:
    assert [p.path for p in GaussianBlur.problems(GaussianBlur(radius_min=3.0), FACTS)] == ["radius_min"]
