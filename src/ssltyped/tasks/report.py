"""What a measure found: a table on the terminal, numbers in a file, and a picture of them."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ssltyped import distributed
from ssltyped.config.hints import columns
from ssltyped.engine.parallel import say
from ssltyped.evals.intervals import Interval
from ssltyped.model.files import write_text, written

NO_PLOTS = "no picture: matplotlib is not installed (pip install 'ssltyped[plots]')"


@dataclasses.dataclass(frozen=True)
class Figure:
    """One measured number.

    Args:
        name: what was measured, such as "top1".
        setting: of what, and how: feature, k, learning rate ...
        value: in percent.
        interval: of 95%, for another test set of this size.
    """

    name: str
    setting: Mapping[str, str | int | float]
    value: float
    interval: Interval

    @property
    def row(self) -> dict[str, str]:
        setting = {key: f"{value:g}" if isinstance(value, float) else str(value) for key, value in self.setting.items()}
        low, high = self.interval
        return {**setting, self.name: f"{self.value:.2f} ({low:.1f} to {high:.1f})"}


@dataclasses.dataclass(frozen=True)
class Report:
    """All that a measure found.

    Args:
        title: what was measured, in one line.
        about: what it rests on: numbers of images, the share that was held out ...
        figures: in the order in which they are shown.
    """

    title: str
    about: Mapping[str, str | int | float]
    figures: Sequence[Figure]

    def lines(self) -> Iterator[str]:
        """The title, and a line a setting."""
        rows: dict[str, dict[str, str]] = {}
        for figure in self.figures:
            rows.setdefault(json.dumps(dict(figure.setting)), {}).update(figure.row)
        names = list(dict.fromkeys(name for row in rows.values() for name in row))
        cells = [names, *([row.get(name, "") for name in names] for row in rows.values())]
        yield self.title
        yield "  " + ", ".join(f"{key} {value}" for key, value in self.about.items())
        yield from (f"  {line}" for line in columns(cells))

    def write(self, folder: Path, name: str) -> None:
        """Say it, and write NAME.json and, where matplotlib is installed, NAME.png (rank 0 does)."""
        if not distributed.is_main():
            return
        for line in self.lines():
            say(line)
        content = {**dataclasses.asdict(self), "figures": [_plain(figure) for figure in self.figures]}
        write_text(folder / f"{name}.json", json.dumps(content, indent=2) + "\n")
        try:
            self._draw(folder / f"{name}.png")
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("matplotlib"):
                raise
            say(NO_PLOTS)

    def _draw(self, path: Path) -> None:
        """Bars of the figures with their intervals."""
        from matplotlib.figure import Figure as Picture

        names = [" ".join([one.name, *(f"{k} {v}" for k, v in one.setting.items())]) for one in self.figures]
        values = [one.value for one in self.figures]
        below = [one.value - one.interval.low for one in self.figures]
        above = [one.interval.high - one.value for one in self.figures]
        picture = Picture(figsize=(7, 1 + 0.35 * len(values)), layout="constrained")
        axes = picture.add_subplot()
        axes.barh(range(len(values)), values, xerr=[below, above], capsize=3)
        axes.set_yticks(range(len(values)), names, fontsize=8)
        axes.invert_yaxis()
        axes.set_xlabel("percent, with intervals of 95%")
        axes.set_title(self.title, fontsize=9)
        with written(path) as partial:
            picture.savefig(partial, format="png")


def _plain(figure: Figure) -> dict[str, object]:
    low, high = figure.interval
    return {
        "name": figure.name,
        "setting": dict(figure.setting),
        "value": figure.value,
        "low": low,
        "high": high,
    }
