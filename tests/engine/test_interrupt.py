"""Signals: noted while it listens, agreed on by all ranks one step later."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest
from ranks import run_on_ranks

from ssltyped import distributed
from ssltyped.engine.interrupt import Interrupt, Verdict, end_once, handled_by

NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _not_under_nohup() -> Iterator[None]:
    """Which has SIGHUP ignored, also when it is what the tests are started by."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_is_noted(number: signal.Signals) -> None:
    interrupt = Interrupt()
    with handled_by(interrupt.note):
        assert interrupt.agreed() is Verdict.GO_ON
        signal.raise_signal(number)
        assert interrupt.agreed() is Verdict.STOP
        assert interrupt.agreed() is Verdict.STOP, "it stays"


def test_handlers_are_those_of_before_also_after_an_error() -> None:
    before, within = [signal.getsignal(number) for number in NUMBERS], list[object]()

    def fail() -> None:
        with handled_by(Interrupt().note):
            within.extend(signal.getsignal(number) for number in NUMBERS)
            raise RuntimeError("in the block")

    with pytest.raises(RuntimeError, match="in the block"):
        fail()
    assert within != before
    assert [signal.getsignal(number) for number in NUMBERS] == before


@pytest.mark.parametrize(
    ("numbers", "aborts"),
    [
        ([signal.SIGINT, signal.SIGINT], True),
        ([signal.SIGINT, signal.SIGTERM], False),
        ([signal.SIGTERM, signal.SIGINT], False),
        ([signal.SIGTERM, signal.SIGTERM, signal.SIGTERM], False),
        ([signal.SIGTERM, signal.SIGINT, signal.SIGINT], True),
    ],
)
def test_only_a_second_ctrl_c_aborts(numbers: list[signal.Signals], aborts: bool) -> None:
    """A Ctrl-C that comes as both signals, in any order, is one."""
    interrupt = Interrupt()
    *first, last = numbers
    with handled_by(interrupt.note):
        for number in first:
            signal.raise_signal(number)
        if aborts:
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(last)
        else:
            signal.raise_signal(last)
        assert interrupt.agreed() is Verdict.STOP


def test_in_another_thread_nothing_is_changed() -> None:
    """Python lets only the main thread set handlers."""
    before, seen = signal.getsignal(signal.SIGTERM), list[object]()

    def listen() -> None:
        with handled_by(Interrupt().note):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [before]


def asked_on_rank_one(at: int, steps: int) -> tuple[list[bool], bool]:
    """What each rank is told after each step, if rank 1 is asked to stop in step `at`."""
    interrupt, answers = Interrupt(), list[bool]()
    with handled_by(interrupt.note):
        for step in range(steps):
            if step == at and distributed.rank() == 1:
                signal.raise_signal(signal.SIGTERM)
            answers.append(interrupt.agreed() is Verdict.STOP)
        interrupt.settle()
    return answers, interrupt._pending is None


@pytest.mark.parametrize("at", [0, 2, 4])
def test_all_ranks_agree_one_step_later(at: int) -> None:
    first, second = run_on_ranks(asked_on_rank_one, 2, at, 5)
    assert first == second == ([step > at for step in range(5)], True)


def failed_on_rank_one(at: int, steps: int) -> list[Verdict]:
    """Rank 0 is asked to stop in the step in which rank 1 fails."""
    interrupt, answers = Interrupt(), list[Verdict]()
    with handled_by(interrupt.note):
        for step in range(steps):
            if step == at and distributed.rank() == 0:
                signal.raise_signal(signal.SIGTERM)
            answers.append(interrupt.agreed(failed=step >= at and distributed.rank() == 1))
        interrupt.settle()
    return answers


def test_a_failure_is_known_to_all_ranks_one_step_later_and_is_more_than_a_stop() -> None:
    first, second = run_on_ranks(failed_on_rank_one, 2, 1, 4)
    assert first == second == [Verdict.GO_ON, Verdict.GO_ON, Verdict.FAILED, Verdict.FAILED]


def test_a_failure_of_one_process_is_known_at_once() -> None:
    assert Interrupt().agreed(failed=True) is Verdict.FAILED


def test_a_key_that_is_held_aborts_once() -> None:
    interrupt = Interrupt()
    with handled_by(interrupt.note):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)


def test_nohup_is_respected() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        interrupt = Interrupt()
        with handled_by(interrupt.note):
            signal.raise_signal(signal.SIGHUP)
            assert interrupt.agreed() is Verdict.GO_ON
            signal.raise_signal(signal.SIGTERM)
            assert interrupt.agreed() is Verdict.STOP
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_handler_that_hears_one() -> None:
    before = signal.signal(signal.SIGINT, end_once)
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
