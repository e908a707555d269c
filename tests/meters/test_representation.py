"""Figures of embeddings against numpy, plain loops, and cases whose value is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from ssltyped.meters.representation import (
    agreement,
    alignment,
    information,
    perplexity,
    pooled,
    rankme,
    spread,
    uniformity,
)


def noise(rows: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (9, 9), (1, 5), (5, 1)])
def test_rankme_is_the_entropy_of_numpys_singular_values(shape: tuple[int, int]) -> None:
    z = noise(*shape) + 3
    sigma = np.linalg.svd(z.numpy(), compute_uv=False)
    p = sigma / sigma.sum() + 1e-7
    assert rankme(z) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-5)
    assert rankme(1e-3 * z.float()) == pytest.approx(rankme(z), rel=1e-4), "no matter the scale, nor the precision"


def test_rankme_of_what_is_known() -> None:
    assert rankme(torch.eye(6)) == pytest.approx(6, rel=1e-4)
    assert rankme(torch.ones(50, 8)) == pytest.approx(1, abs=1e-4)
    assert rankme(torch.zeros(4, 3)) == pytest.approx(1, abs=1e-4)
    assert math.isnan(rankme(torch.full((4, 3), math.inf)))


def test_spread_of_a_sphere_is_1_and_of_a_point_0() -> None:
    assert float(spread(noise(20_000, 16))) == pytest.approx(1, abs=0.01)
    assert float(spread(torch.ones(10, 16))) == pytest.approx(0, abs=1e-6)
    z = noise(30, 5)
    u = (z / z.norm(dim=1, keepdim=True)).numpy()
    assert float(spread(7 * z)) == pytest.approx(u.std(axis=0).mean() * math.sqrt(5))


def test_alignment_uniformity_and_agreement_in_plain_loops() -> None:
    a, b = noise(12, 4), noise(12, 4, seed=1)
    u, v = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    assert float(alignment(a, b)) == pytest.approx(sum(float((u[n] - v[n]).pow(2).sum()) for n in range(12)) / 12)
    pairs = [(n, m) for n in range(12) for m in range(12) if n != m]
    mean = sum(math.exp(-2 * float((u[n] - u[m]).pow(2).sum())) for n, m in pairs) / len(pairs)
    assert float(uniformity(a)) == pytest.approx(math.log(mean))
    own = sum(float((a[n] - b[n]).pow(2).sum()) for n in range(12)) / 12
    others = sum(float((a[n] - b[m]).pow(2).sum()) for n, m in pairs) / len(pairs)
    assert float(agreement(a, b)) == pytest.approx(1 - own / others)


def test_alignment_and_uniformity_at_their_ends() -> None:
    a = noise(9, 5)
    assert float(alignment(a, 2 * a)) == pytest.approx(0)
    assert float(alignment(a, -a)) == pytest.approx(4)
    assert float(uniformity(torch.ones(9, 5))) == pytest.approx(0, abs=1e-6)
    assert float(uniformity(noise(2000, 64))) == pytest.approx(-3.9, abs=0.1)


def test_agreement_of_pairs_of_strangers_is_0_and_of_twins_1() -> None:
    a = noise(2000, 8)
    assert float(agreement(a, a)) == 1
    assert float(agreement(a, noise(2000, 8, seed=1))) == pytest.approx(0, abs=0.05)
    assert float(agreement(a, a + 0.5 * noise(2000, 8, seed=1))) == pytest.approx(1 - 0.25 / 2.25, abs=0.02)
    assert math.isnan(float(agreement(torch.ones(4, 3), torch.ones(4, 3))))


def both(p: Tensor) -> tuple[float, float]:
    return float(perplexity(p.mean(dim=0))), float(information(p.mean(dim=0), torch.special.entr(p).sum(dim=1).mean()))


def test_perplexity_and_information_against_scipy() -> None:
    p = noise(20, 6).softmax(dim=1)
    mean, rows = stats.entropy(p.numpy().mean(axis=0)), stats.entropy(p.numpy(), axis=1)
    assert both(p) == pytest.approx((math.exp(mean), mean - rows.mean()))


def test_information_is_0_in_either_collapse() -> None:
    one = torch.zeros(10, 4)
    one[:, 2] = 1
    assert both(one) == pytest.approx((1, 0), abs=1e-6)
    assert both(torch.full((10, 4), 0.25)) == pytest.approx((4, 0), abs=1e-6)
    assert both(torch.eye(4)) == pytest.approx((4, math.log(4)), abs=1e-6)


def test_pixels_and_tokens_are_averaged() -> None:
    x = noise(2, 15).reshape(2, 3, 5)
    assert torch.equal(pooled(x[:, 0]), x[:, 0])
    assert torch.equal(pooled(x), torch.stack([image.mean(dim=0) for image in x]))
    pixels = noise(2, 24).reshape(2, 3, 2, 4)
    torch.testing.assert_close(pooled(pixels), pixels.mean(dim=(2, 3)))
