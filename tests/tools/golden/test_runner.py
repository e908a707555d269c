"""The recorded cases that are committed, and that the tool fails where it must."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import JsonValue, TypeAdapter

from tools.golden import runner
from tools.golden.arrays import Arrays, load

PUBLIC = Path(__file__).parents[2] / "golden" / "public"
MOST_EXCUSED = 15
Raw = dict[str, JsonValue]
INDEX: Raw = TypeAdapter(Raw).validate_json((PUBLIC / "index.json").read_text())
CASES = TypeAdapter(list[Raw]).validate_python(INDEX["cases"])


def total(report: str) -> list[int]:
    """Passed, failed, excused."""
    return [int(count) for count in report.splitlines()[-1].split()[1:]]


@pytest.mark.usefixtures("fork_server")
def test_recorded_cases_of_parts() -> None:
    """All but whole models; those of two ranks in one pair of processes."""
    index = load(PUBLIC / "index.json")
    cases = [case for case in index.cases if case.component not in runner.MODELS]
    outcomes = list(runner.run(index, cases, PUBLIC))
    assert sorted(outcome.id for outcome in outcomes) == sorted(case.id for case in cases)
    assert not [outcome for outcome in outcomes if outcome.status is runner.Status.FAILED], runner.report(outcomes)


LISTED = pytest.param(runner.LISTING, marks=pytest.mark.slow, id="listing")  # tests/trunks has what it lists


@pytest.mark.parametrize("component", [*runner.MODELS, LISTED])
def test_recorded_cases_of(component: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = runner.main([str(PUBLIC / "index.json"), "--only", component])
    report = capsys.readouterr().out
    assert code == 0, report
    listed = len(json.loads((PUBLIC / "trunks_public.json").read_text())["cases"])
    cases = sum(case["component"] == component for case in CASES)
    assert sum(total(report)) == (listed if component == runner.LISTING else cases) > 0


def test_few_cases_are_excused() -> None:
    index = load(PUBLIC / "index.json")
    arrays = Arrays(PUBLIC)
    bugs = [runner.bug_of(case, arrays) for case in index.cases if case.component not in runner.MODELS]
    assert 0 < sum(bug is not None for bug in bugs) <= MOST_EXCUSED
    assert sum(bug is not None and not bug.put_back for bug in bugs) == 1, "all others are compared but for their bug"


def small(folder: Path, change: Callable[[Raw], object], case_id: str = "losses.simclr_info_nce_loss.0") -> Path:
    """An index of one case, changed; its arrays beside it."""
    case: Raw = json.loads(json.dumps(next(case for case in CASES if case["id"] == case_id)))
    change(case)
    for file in ("public_losses.npz", "public_heads.npz", "public_trunks.npz"):
        shutil.copy(PUBLIC / file, folder / file)
    (folder / "index.json").write_text(json.dumps({"cases": [case]}))
    return folder / "index.json"


def nothing(case: Raw) -> None:
    """The case as it is."""


def test_any_folder_will_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main([str(small(tmp_path, nothing))]) == 0
    assert total(capsys.readouterr().out) == [1, 0, 0, 0]


def test_another_parameter_gives_other_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = small(tmp_path, lambda case: case.update(params={"temperature": 0.11}))
    assert runner.main([str(index)]) == 1
    report = capsys.readouterr().out
    assert total(report) == [0, 1, 0, 0]
    assert "failed losses.simclr_info_nce_loss.0: loss: 1 of 1 values differ, by up to" in report
    assert "grad_output: " in report


@pytest.mark.usefixtures("fork_server")
def test_another_number_of_one_rank_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = small(tmp_path, nothing, "losses.moco_loss.5")
    arrays = dict(np.load(tmp_path / "public_losses.npz"))
    key = next(key for key in arrays if key.startswith("losses.moco_loss.5") and "rank1" in key and "loss_step2" in key)
    arrays[key] = arrays[key] + 1
    np.savez(tmp_path / "public_losses.npz", **arrays)
    assert runner.main([str(index)]) == 1
    report = capsys.readouterr().out
    assert "failed losses.moco_loss.5: rank 1: loss_step2: 1 of 1 values differ, by up to 1" in report
    assert "rank 0" not in report


@pytest.mark.parametrize("change", [{"name": "no_such_loss"}, {"component": "no_such_component"}])
def test_what_no_adapter_knows_fails(
    change: dict[str, JsonValue], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runner.main([str(small(tmp_path, lambda case: case.update(change)))]) == 1
    assert "no adapter knows " in capsys.readouterr().out


def test_what_an_adapter_raises_is_the_fault_of_its_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main([str(small(tmp_path, lambda case: case.update(inputs={})))]) == 1
    assert "TypeError: input 'output' is NoneType" in capsys.readouterr().out


def test_a_bug_excuses_only_where_it_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A residual MLP whose widths differ adds nothing, so its case is compared as any other, and fails as any other."""
    index = small(tmp_path, nothing, "heads.mlp_res.0")
    assert runner.main([str(index)]) == 0
    assert total(capsys.readouterr().out) == [0, 0, 1, 0]
    other = small(tmp_path, lambda case: case.update(name="mlp_res", params={"dims": [16, 8]}), "heads.mlp.0")
    assert runner.main([str(other)]) == 1
    assert total(capsys.readouterr().out) == [0, 1, 0, 0]


def test_an_excused_case_must_agree_with_the_bug_put_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = small(tmp_path, nothing, "heads.mlp_res.0")
    arrays = dict(np.load(tmp_path / "public_heads.npz"))
    key = next(key for key in arrays if key.startswith("heads.mlp_res.0") and "eval_outputs" in key)
    arrays[key] = arrays[key] + 1
    np.savez(tmp_path / "public_heads.npz", **arrays)
    assert runner.main([str(index)]) == 1
    assert total(capsys.readouterr().out) == [0, 1, 0, 0]


def missing(folder: Path) -> Path:
    return folder / "index.json"


def no_json(folder: Path) -> Path:
    (folder / "index.json").write_text("{")
    return folder / "index.json"


def no_cases(folder: Path) -> Path:
    (folder / "index.json").write_text("{}")
    return folder / "index.json"


def half_a_case(folder: Path) -> Path:
    return small(folder, lambda case: case.pop("tol"))


def no_arrays(folder: Path) -> Path:
    path = small(folder, nothing)
    (folder / "public_losses.npz").unlink()
    return path


def no_listing(folder: Path) -> Path:
    (folder / "index.json").write_text(json.dumps({"cases": [], "json_files": {"trunks_gone.json": {}}}))
    return folder / "index.json"


@pytest.mark.parametrize(
    "broken, message",
    [
        (missing, "index.json: No such file or directory"),
        (no_json, "is no golden index: "),
        (no_cases, "is no golden index: "),
        (half_a_case, "case losses.simclr_info_nce_loss.0: ('tol',) Field required"),
        (no_arrays, "public_losses.npz: [Errno 2] No such file"),
        (no_listing, "trunks_gone.json: No such file or directory"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_broken_index_is_one_clear_error(
    broken: Callable[[Path], Path], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runner.main([str(broken(tmp_path))]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert message in printed.err


def test_a_component_that_no_case_has_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main([str(small(tmp_path, nothing)), "--only", "los"]) == 2
    assert "error: --only los: no such case; there are loss, trunk_listing" in capsys.readouterr().err


def test_models_need_the_files_that_they_are_composed_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = str(small(tmp_path, nothing, "trunks.vit_tiny64.0"))
    assert runner.main([index, "--vissl-configs", str(tmp_path / "gone")]) == 2
    assert "gone: no such folder" in capsys.readouterr().err
    (tmp_path / "vissl_configs").mkdir()
    assert runner.main([index]) == 0, "those beside the index come first, and nothing failed"
    printed = capsys.readouterr().out
    assert str(tmp_path / "vissl_configs" / "defaults.yaml") in printed
    assert "is not here: give --vissl-configs" in printed
    assert printed.splitlines()[-1].split() == ["total", "0", "0", "0", "1"]


def test_a_case_whose_file_is_not_among_ours_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says which file, and the cases that need it are counted apart from those that fail."""

    def other(case: dict[str, JsonValue]) -> None:
        params = case["params"]
        assert isinstance(params, dict)
        params["overrides"] = ["config=pretrain/none/of_ours"]

    index = str(small(tmp_path, other, "trunks.vit_tiny64.0"))
    assert runner.main([index]) == 0
    printed = capsys.readouterr().out
    assert "not run trunks.vit_tiny64.0: " in printed
    assert "config/pretrain/none/of_ours.yaml is not here: give --vissl-configs" in printed
    assert printed.splitlines()[-1].split() == ["total", "0", "0", "0", "1"]
