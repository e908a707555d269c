"""Cosine and CosineWarmRestarts: ends and peaks, where waves start, what is inferred, and what is refused."""

import itertools
import math

import pytest
from scheduler_facts import facts, inferred, lacking

from ssltyped.config import ConfigError, build
from ssltyped.config.resolve import resolve
from ssltyped.schedulers.cosine import Cosine, CosineConf, CosineWarmRestarts, CosineWarmRestartsConf, Wave, wave
from ssltyped.types import Inference, Update


def test_ends_and_middle() -> None:
    schedule = Cosine(start=3.0, end=1.0)
    assert [schedule(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([3.0, 2.0, 1.0], abs=1e-15)
    assert schedule.update is Update.STEP


def test_start_is_the_learning_rate_unless_given() -> None:
    (inference,) = Cosine.infer(CosineConf(), facts())
    assert inference == Inference("start", 4.8, "the learning rate of the optimizer", default=True)
    assert not inferred(CosineConf(start=0.0), facts())
    assert not list(Cosine.infer(CosineConf(), facts(lr=None)))


def test_without_start() -> None:
    assert lacking(CosineConf(), facts(lr=None)) == ["start"]
    with pytest.raises(ValueError, match="Cosine cannot be built without start"):
        Cosine()


def test_a_wave_falls_and_rises() -> None:
    assert [wave(3.0, 1.0, t) for t in (0.0, 1.0, 1.5, 2.0)] == pytest.approx([3.0, 1.0, 2.0, 3.0])


@pytest.mark.parametrize("interval", [0.1, 0.25, 1 / 3, 0.3])
def test_half_waves_jump_up_exactly_at_the_restart(interval: float) -> None:
    schedule = CosineWarmRestarts(start=2.0, end=0.5, interval=interval, gamma=0.5)
    for k in range(1, math.ceil(1 / interval)):
        assert schedule(k * interval) == pytest.approx(0.5 + (2.0 * 0.5**k - 0.5), rel=1e-4)
        assert schedule(k * interval - 1e-4) == pytest.approx(0.5, abs=1e-4)
        middle = 0.5 + (2.0 * 0.5**k - 0.5) / 2
        assert schedule((k + 0.5) * interval) == pytest.approx(middle)


def test_full_waves_rise_to_their_peak() -> None:
    schedule = CosineWarmRestarts(start=1.0, end=0.1, interval=0.2, wave=Wave.FULL, gamma=0.7)
    assert [schedule(p) for p in (0.0, 0.2, 0.4, 0.6, 0.8)] == pytest.approx([1.0, 0.1, 0.7, 0.1, 0.49])
    values = [schedule(i / 1000) for i in range(1000)]
    assert max(abs(a - b) for a, b in itertools.pairwise(values)) < 0.01


def test_adaptive_peaks_lie_on_one_cosine() -> None:
    one = Cosine(start=1.0, end=0.1)
    half = CosineWarmRestarts(start=1.0, end=0.1, interval=0.25, adaptive=True)
    assert [half(k * 0.25) for k in range(4)] == pytest.approx([one(k * 0.25) for k in range(4)])
    full = CosineWarmRestarts(start=1.0, end=0.1, interval=0.2, wave=Wave.FULL, adaptive=True)
    assert [full(p) for p in (0.0, 0.4, 0.8)] == pytest.approx([one(0.2), one(0.4), one(0.8)])


def test_without_restart_it_is_a_cosine() -> None:
    schedule, cosine = CosineWarmRestarts(start=1.0, end=0.1, interval=1.0), Cosine(start=1.0, end=0.1)
    assert [schedule(i / 50) for i in range(50)] == [cosine(i / 50) for i in range(50)]


def test_start_is_inferred_and_gamma_beside_adaptive_refused() -> None:
    assert inferred(CosineWarmRestartsConf(interval=0.5), facts()) == {"start": 4.8}
    assert lacking(CosineWarmRestartsConf(interval=0.5), facts(lr=None)) == ["start"]
    wrong = CosineWarmRestartsConf(start=1.0, interval=0.5, gamma=0.5, adaptive=True)
    assert [problem.path for problem in CosineWarmRestarts.problems(wrong, facts())] == ["gamma"]
    with pytest.raises(ValueError, match="no effect on adaptive peaks"):
        CosineWarmRestarts(start=1.0, interval=0.5, gamma=0.5, adaptive=True)
    with pytest.raises(ValueError, match="CosineWarmRestarts cannot be built without start"):
        CosineWarmRestarts(interval=0.5)


@pytest.mark.parametrize("asked", [CosineConf(end=5.0), CosineWarmRestartsConf(interval=0.5, end=5.0)])
def test_a_fall_to_above_the_learning_rate_is_refused(asked: Cosine | CosineWarmRestarts) -> None:
    with pytest.raises(ConfigError, match=r"end: got 5, above the learning rate 4.8 .* smaller end, or start too"):
        resolve(asked, lambda _: facts())


def test_a_rise_says_where_it_starts() -> None:
    assert not inferred(CosineConf(start=4.8, end=5.0), facts())
    assert inferred(CosineConf(end=4.8), facts()) == {"start": 4.8}


@pytest.mark.parametrize("interval", [0.1, 0.2, 0.5, 0.7])
@pytest.mark.parametrize("end", [0.0, 0.3])
def test_adaptive_full_waves_rise_to_the_learning_rate_and_no_further(interval: float, end: float) -> None:
    asked = CosineWarmRestartsConf(interval=interval, wave=Wave.FULL, adaptive=True, end=end)
    schedule = build(resolve(asked, lambda _: facts()).config)
    assert schedule(0.0) == pytest.approx(4.8)
    assert schedule.highest() == pytest.approx(4.8)
    assert schedule(interval) == pytest.approx(end)


def test_one_adaptive_full_wave_has_no_height() -> None:
    asked = CosineWarmRestartsConf(interval=1.0, wave=Wave.FULL, adaptive=True)
    assert lacking(asked, facts()) == ["interval"]
