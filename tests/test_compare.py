"""Two runs side by side: what is different, and what came of it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from measured import labelled
from tiny import tiny

from ssltyped import launch
from ssltyped.compare import main
from ssltyped.engine.callbacks.metrics_file import MetricsFileConf
from ssltyped.losses.barlow_twins import BarlowTwinsLossConf
from ssltyped.tasks.knn import KNNEvalConf


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs")
    launch(tiny(output=output, steps=2, callbacks=[MetricsFileConf()]), ["loss.temperature=0.1", "name=cold"])
    launch(tiny(output=output, steps=3, callbacks=[MetricsFileConf()]), ["loss.temperature=0.5", "name=warm"])
    launch(tiny(output=output, steps=2, loss=BarlowTwinsLossConf(), callbacks=[MetricsFileConf()]), ["name=barlow"])
    return output


def compared(capsys: pytest.CaptureFixture[str], *runs: Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """What differs, and what was measured."""
    assert main([str(run) for run in runs]) == 0
    differing, measured = capsys.readouterr().out.split("\nmeasured")
    first, second = (
        {name: values for name, *values in (re.split(r"\s{2,}", line.strip()) for line in text.splitlines()[1:])}
        for text in (differing.partition("\n")[2], measured)
    )
    return first, second


def test_fields_and_metrics_of_two_runs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    differing, measured = compared(capsys, runs / "cold", runs / "warm")
    assert differing == {"steps": ["2", "3"], "loss.temperature": ["0.1", "0.5"]}
    assert measured["step"] == ["2", "3"]
    assert float(measured["loss"][0]) != float(measured["loss"][1])


def test_another_part_is_one_line(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    differing, measured = compared(capsys, runs / "cold", runs / "barlow")
    assert differing == {"loss": ["SimCLRLoss", "BarlowTwinsLoss"], "passes": ["null", "apart"]}
    assert measured["z_std"][0] != "-"


def test_equal_runs_differ_in_nothing(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compared(capsys, runs / "cold", runs / "cold")[0] == {"nothing": []}


def test_a_run_that_was_killed_while_it_wrote(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = runs / "barlow" / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"step": 9, "lo')
    assert compared(capsys, runs / "cold", runs / "barlow")[1]["step"] == ["2", "2"]


def test_a_run_that_kept_no_metrics(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    launch(tiny(output=runs, steps=1), ["name=quiet"])
    assert compared(capsys, runs / "cold", runs / "quiet")[1]["step"] == ["2", "-"]


def test_all_that_are_no_runs_are_named(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "resolved.yaml").write_text("_target_: ssltyped.gone.Gone\n")
    assert main([str(runs / "cold"), str(runs / "none"), str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert f"{runs / 'none'}: is not the folder of a run: it has no resolved.yaml" in told
    assert f"{tmp_path / 'resolved.yaml'}: " in told
    assert "ssltyped.gone" in told
    assert "Traceback" not in told


def test_long_values_that_differ_at_their_end(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = "/a/very/long/way/to/the/pictures/of/all/kinds/of/animals"
    for name, end in (("cats", "cats"), ("dogs", "dogs")):
        text = (runs / "cold" / "resolved.yaml").read_text()
        (runs / name).mkdir()
        (runs / name / "resolved.yaml").write_text(text.replace("  path: null", f"  path: {long}/{end}", 1))
    differing, _ = compared(capsys, runs / "cats", runs / "dogs")
    assert [value[-12:] for value in differing["data.train.path"]] == ["animals/cats", "animals/dogs"]
    assert all(len(value) <= 40 for value in differing["data.train.path"])


@pytest.mark.parametrize("text", ['{"step": 1, "lo\n{"step": 2}\n', '{"loss": "low"}', '{"loss": null}', "[1]\n{}"])
def test_a_damaged_file_of_metrics_is_named(
    text: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs / "cold", tmp_path / "cold")
    (tmp_path / "cold" / "metrics.jsonl").write_text(text)
    assert main([str(tmp_path / "cold"), str(runs / "warm")]) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err


def test_a_file_is_no_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(runs / "cold" / "result.json"), str(runs / "warm")]) == 2
    assert "is not the folder of a run" in capsys.readouterr().err


def test_measures_are_compared_by_their_results(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, test in (("knn a", 20), ("knn b", 30)):
        launch(KNNEvalConf(weights=runs / "cold", data=labelled(40, test), ks=[5], output=runs), name=name)
    capsys.readouterr()
    differing, measured = compared(capsys, runs / "knn a", runs / "knn b")
    assert differing == {"data.test_source.count": ["20", "30"]}
    assert "knn_top1.flatten.k5" in measured


def test_one_run_is_not_compared(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["runs/only"])
    assert "at least two runs" in capsys.readouterr().err
