"""Intervals against scipy's, and against what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from ssltyped.evals.intervals import of_mean, wilson


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (3, 10), (397, 397), (271, 397), (25_000, 50_000)])
def test_wilson_is_that_of_scipy(hits: int, count: int) -> None:
    want = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    assert wilson(100 * hits / count, count) == pytest.approx((100 * want.low, 100 * want.high), abs=1e-9)


def test_of_a_mean_it_holds_the_truth_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).normal(3.0, 2.0, (4000, 50))
    held = sum(low <= 3.0 <= high for low, high in (of_mean(d.mean(), d.std(ddof=1), 50) for d in draws))
    assert held / 4000 == pytest.approx(0.945, abs=0.012)


def test_of_nothing_nothing_is_known() -> None:
    assert of_mean(62.5, 100.0, 4, most=100.0) == (0.0, 100.0), "no mean average precision is below 0"
    assert all(map(math.isnan, (*wilson(math.nan, 0), *of_mean(math.nan, 0.0, 0))))
