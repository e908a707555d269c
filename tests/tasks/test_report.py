"""A table, a file and a picture of what was measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import pytest

from ssltyped.evals.intervals import Interval
from ssltyped.tasks.report import NO_PLOTS, Figure, Report

FIGURES = [
    Figure("top1", {"feature": "res4", "lr": 0.03}, 41.25, Interval(38.0, 44.5)),
    Figure("top5", {"feature": "res4", "lr": 0.03}, 80.0, Interval(77.0, 83.0)),
    Figure("top1", {"feature": "flatten", "lr": 1e-5}, 50.0, Interval(46.0, 54.0)),
]
REPORT = Report("accuracy of a run", {"images": 48, "test images": 12}, FIGURES)


def test_the_table_has_a_line_a_setting() -> None:
    assert list(REPORT.lines()) == [
        "accuracy of a run",
        "  images 48, test images 12",
        "  feature  lr     top1                  top5",
        "  res4     0.03   41.25 (38.0 to 44.5)  80.00 (77.0 to 83.0)",
        "  flatten  1e-05  50.00 (46.0 to 54.0)",
    ]


def test_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    REPORT.write(tmp_path, "knn")
    assert "  flatten  1e-05  50.00 (46.0 to 54.0)" in capsys.readouterr().out
    content = json.loads((tmp_path / "knn.json").read_text())
    assert content["figures"][0] == {
        "name": "top1", "setting": {"feature": "res4", "lr": 0.03}, "value": 41.25, "low": 38.0, "high": 44.5
    }  # fmt: skip
    picture = cv2.imread(str(tmp_path / "knn.png"))
    assert picture is not None
    assert picture.min() < 100 < picture.max(), "bars on white"


def test_without_matplotlib_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    REPORT.write(tmp_path, "knn")
    assert NO_PLOTS in capsys.readouterr().out
    assert [file.name for file in tmp_path.iterdir()] == ["knn.json"]
