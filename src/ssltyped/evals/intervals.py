"""How far a measure of so many images may be from that of all images."""

import math
from statistics import NormalDist
from typing import NamedTuple


class Interval(NamedTuple):
    """From and to, in the units of the measure."""

    low: float
    high: float


def wilson(percent: float, count: int, confidence: float = 0.95) -> Interval:
    """The interval of a percentage of `count` images that are drawn independently; nan of none.

        (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    Wilson 1927, "Probable inference, the law of succession, and statistical inference", in percent. It says how far
    another test set of this size may be; not how far another seed of the training may.
    """
    if not count or math.isnan(percent):
        return Interval(math.nan, math.nan)
    z, p = NormalDist().inv_cdf((1 + confidence) / 2), percent / 100
    middle = p + z**2 / (2 * count)
    spread = z * math.sqrt(p * (1 - p) / count + z**2 / (4 * count**2))
    low, high = ((middle + sign * spread) / (1 + z**2 / count) for sign in (-1, 1))
    return Interval(min(100 * low, percent), max(100 * high, percent))  # at 0 and 100 % they are equal, to rounding


def of_mean(mean: float, deviation: float, count: int, confidence: float = 0.95, most: float = math.inf) -> Interval:
    """The interval of a mean of `count` values in [0, most], cut at these: mean +- z deviation / sqrt(count)."""
    if not count:
        return Interval(math.nan, math.nan)
    spread = NormalDist().inv_cdf((1 + confidence) / 2) * deviation / math.sqrt(count)
    return Interval(max(mean - spread, 0.0), min(mean + spread, most))  # nan stays nan
