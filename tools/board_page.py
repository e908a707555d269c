"""docs/board.md and its picture, from the rows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from scipy.special import stdtrit

from ssltyped.model.files import written
from tools.board_runs import Row, Side

PICTURE = "board.png"
INTRODUCTION = """\
# Does it learn?

Made by `python -m tools.board --seeds 5 --lightly` from `board.jsonl`, a row a run; not written by hand.

Each recipe of `recipes/small` as it stands, in 20 epochs if nothing else is said, on the 1,400 embedded training digits
(32 x 32 pixels, placed and coloured at random), its trunk judged on the 397 test digits, of other writers: weighted kNN
of 20 neighbours, and a linear classifier whose rate and decay a tenth of the training digits decide. Percent, mean over
the seeds, and half of the 95 % interval of that mean (Student's); it does not cover the choice of the test images. The
settings were tuned on a part of the training digits, with one seed. Bold: above the untrained trunk in both of its
states below, the intervals apart. Slanted: above the trunk that training starts from, with settled statistics, alone.
CPU-seconds: of the training on one thread, evaluations in it included, while another run went on beside it.
"""
STARTS = """\
## Untrained

The same trunks, mean over their own 20 seeds: as torch makes them, BatchNorm passing on what comes in, and settled,
with BatchNorm statistics of the images, as after a first step of training (with which a run logs its start).
"""
BESIDE = """\
## Beside lightly

The same trunk and head from the same start, images, views, optimizer, schedule and steps, by lightly's losses in a
plain loop (`tools/board_lightly.py`), with our settings as far as lightly has them: our SwAV's codes are hard, theirs
soft. DINO is judged by its teacher in both. Steps a second: medians over stretches of all runs, one thread each, data
included, while other runs went on beside them.
"""


class Estimate(NamedTuple):
    """A mean over seeds and how far the mean of other seeds may be: half of the interval of 95 %; nan for one seed."""

    mean: float
    half: float

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half

    def __str__(self) -> str:
        return f"{self.mean:.1f}" + ("" if math.isnan(self.half) else f" ± {self.half:.1f}")


def estimate(values: Sequence[float]) -> Estimate:
    """mean +- t_(0.975, n - 1) s / sqrt(n): Student's interval of the mean of n seeds; nan of none."""
    n = len(values)
    if not n:
        return Estimate(math.nan, math.nan)
    half = math.nan if n < 2 else float(stdtrit(n - 1, 0.975)) * statistics.stdev(values) / math.sqrt(n)
    return Estimate(statistics.mean(values), half)


class Board:
    """The rows by side and method.

    Args:
        rows: of any number of methods and seeds.
        starts: of each method, the one whose untrained trunk is measured for it.
        epochs: that the trained ones were trained.
    """

    def __init__(self, rows: Iterable[Row], starts: dict[str, str], epochs: int) -> None:
        self.rows, self._starts, self.epochs = list(rows), starts, epochs

    def of(self, side: Side, method: str) -> list[Row]:
        return [row for row in self.rows if row.side == side.value and row.method == method]

    def value(self, side: Side, method: str, measure: Callable[[Row], float]) -> Estimate:
        return estimate([measure(row) for row in self.of(side, method)])

    @property
    def methods(self) -> list[str]:
        """Those of ours, the best first."""
        names = {row.method for row in self.rows if row.side == Side.OURS.value}
        return sorted(names, key=lambda name: (-self.value(Side.OURS, name, knn).mean, name))

    def start(self, side: Side, method: str, measure: Callable[[Row], float]) -> Estimate:
        """Of the untrained trunk of a method."""
        return self.value(side, self._starts[method], measure)

    def sharing(self, method: str) -> list[str]:
        """The methods that start from the trunk that is measured under this one's name."""
        return [name for name in self.methods if self._starts[name] == method]

    def learned(self, method: str, measure: Callable[[Row], float], *sides: Side) -> bool:
        """Whether the intervals of trained and untrained are apart; False while there is one seed only."""
        low = self.value(Side.OURS, method, measure).low
        return all(low > self.start(side, method, measure).high for side in sides)


def knn(row: Row) -> float:
    return row.knn


def linear(row: Row) -> float:
    return row.linear


def page(board: Board, *longer: Board) -> Iterator[str]:
    """The lines of docs/board.md: a board, and what became of some methods in another number of epochs."""
    yield INTRODUCTION
    yield from _methods(board)
    yield ""
    for other in longer:
        yield from (f"## {other.epochs} epochs", "", *_methods(other), "")
    yield from _starts(board)
    yield ""
    yield f"![kNN accuracy by method]({PICTURE})"
    yield ""
    yield from _beside(board)
    yield from _warnings([row for one in (board, *longer) for row in one.rows])


def _methods(board: Board) -> Iterator[str]:
    yield "| method | seeds | kNN | linear | steps | CPU-seconds |"
    yield "| --- | --- | --- | --- | --- | --- |"
    pixels = [row for row in board.rows if row.side == Side.PIXELS.value]
    for row in pixels[:1]:
        yield f"| raw pixels | | {row.knn:.1f} | {row.linear:.1f} | | |"
    for method in board.methods:
        cells = [_marked(board, method, measure) for measure in (knn, linear)]
        rows = board.of(Side.OURS, method)
        cpu_s = statistics.median(row.cpu_s for row in rows)
        yield f"| {method} | {len(rows)} | {' | '.join(cells)} | {rows[0].steps} | {cpu_s:.0f} |"


def _marked(board: Board, method: str, measure: Callable[[Row], float]) -> str:
    value = board.value(Side.OURS, method, measure)
    if not board.learned(method, measure, Side.SETTLED):
        return str(value)
    return f"**{value}**" if board.learned(method, measure, Side.UNTRAINED) else f"*{value}*"


def _starts(board: Board) -> Iterator[str]:
    """What the trunks are worth before."""
    yield STARTS
    yield "| trunk of | kNN | kNN, settled | linear | linear, settled |"
    yield "| --- | --- | --- | --- | --- |"
    for first in dict.fromkeys(row.method for row in board.rows if row.side == Side.UNTRAINED.value):
        cells = [str(board.value(s, first, one)) for one in (knn, linear) for s in (Side.UNTRAINED, Side.SETTLED)]
        yield f"| {', '.join(board.sharing(first))} | {' | '.join(cells)} |"


def _beside(board: Board) -> Iterator[str]:
    """Ours and lightly's, of the methods that both have been run with."""
    both = [method for method in board.methods if board.of(Side.LIGHTLY, method)]
    if not both:
        return
    yield BESIDE
    yield "| method | kNN | kNN, lightly | linear | linear, lightly | steps/s | steps/s, lightly |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for method in both:
        cells = [str(board.value(side, method, one)) for one in (knn, linear) for side in (Side.OURS, Side.LIGHTLY)]
        for side in (Side.OURS, Side.LIGHTLY):
            cells.append(f"{statistics.median(row.steps_per_s for row in board.of(side, method)):.1f}")
        yield f"| {method} | {' | '.join(cells)} |"
    yield ""


def _warnings(rows: Sequence[Row]) -> Iterator[str]:
    """What any of the runs warned of."""
    ours = [row for row in rows if row.side == Side.OURS.value]
    told = [f"- {row.method}, {row.epochs} epochs, seed {row.seed}: {text}" for row in ours for text in row.warnings]
    yield "## What the runs warned of"
    yield ""
    yield from told or [f"Nothing, in {len(ours)} runs: no alarm of `CollapseWatch`, no setting that does not suit."]


def draw(board: Board, path: Path) -> None:
    """kNN accuracy of each method with its interval, and below it that of its untrained trunk in both states."""
    from matplotlib.figure import Figure

    methods = board.methods
    picture = Figure(figsize=(8, 1 + 0.35 * len(methods)), layout="constrained")
    axes = picture.add_subplot()
    trained = [board.value(Side.OURS, method, knn) for method in methods]
    places = range(len(methods))
    means, halves = [one.mean for one in trained], list(map(_half, trained))
    axes.barh(places, means, xerr=halves, height=0.6, capsize=3, color="tab:blue", label="trained")
    for side, colour in {Side.UNTRAINED: "tab:orange", Side.SETTLED: "tab:gray"}.items():
        starts = [board.start(side, method, knn) for method in methods]
        low = [place + 0.4 for place in places]
        means, halves = [one.mean for one in starts], list(map(_half, starts))
        axes.errorbar(means, low, xerr=halves, fmt=".", color=colour, capsize=2, label=side.value)
    axes.set_yticks(places, methods, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("kNN accuracy on 397 digits, percent, with intervals of 95% over the seeds")
    axes.legend(loc="lower right")
    with written(path) as partial:
        picture.savefig(partial, format="png", dpi=100)


def _half(value: Estimate) -> float:
    return 0.0 if math.isnan(value.half) else value.half
