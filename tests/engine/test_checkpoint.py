"""Checkpoints: what is damaged is passed over, what is half-written never appears, what fails is said."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ranks import run_on_ranks

from ssltyped import distributed
from ssltyped.config import ConfigError
from ssltyped.engine import checkpoint
from ssltyped.engine.checkpoint import Checkpoints, CheckpointStore, complete, damage, load, to_cpu
from ssltyped.weights import closed_pickle

CPU = torch.device("cpu")


def state(step: int) -> dict[str, object]:
    return {"step": step, "world_size": 1, "module": {"w": torch.full((3,), float(step))}}


def saved(folder: Path, *steps: int, keep: int = 10) -> CheckpointStore:
    store = CheckpointStore(folder, keep=keep)
    store.clean(0)
    for step in steps:
        store.save(step, state(step))
    store.wait()
    return store


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def test_saved_and_loaded(tmp_path: Path) -> None:
    newest = saved(tmp_path, 4, 10).newest()
    assert newest is not None
    assert newest.name == "step_00000010"
    back = load(newest, CPU)
    assert back["step"] == 10
    module = back["module"]
    assert isinstance(module, dict)
    assert torch.equal(module["w"], torch.full((3,), 10.0))


def test_none_yet(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path / "none").newest() is None


def test_numbers_not_letters_decide_which_is_newest(tmp_path: Path) -> None:
    newest = saved(tmp_path, 9, 10, 100).newest()
    assert newest is not None
    assert newest.name == "step_00000100"


def cut(path: Path) -> None:
    file = path / "state.pt"
    file.write_bytes(file.read_bytes()[:-7])


def flip(path: Path) -> None:
    file = path / "state.pt"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


def lose_state(path: Path) -> None:
    (path / "state.pt").unlink()


def lose_checksums(path: Path) -> None:
    (path / "checksums.json").unlink()


def garble_checksums(path: Path) -> None:
    (path / "checksums.json").write_bytes(b"\xff\x00 no json")


def empty_checksums(path: Path) -> None:
    (path / "checksums.json").write_text("{}")


def wrong_checksums(path: Path) -> None:
    (path / "checksums.json").write_text("[]")


DAMAGES = [cut, flip, lose_state, lose_checksums, garble_checksums, empty_checksums, wrong_checksums]


@pytest.mark.parametrize("harm", DAMAGES)
def test_damaged_is_passed_over(
    harm: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = saved(tmp_path, 1, 2, 3)
    harm(tmp_path / "step_00000003")
    newest = store.newest()
    assert newest is not None
    assert newest.name == "step_00000002"
    said = capsys.readouterr().out
    assert "step_00000003" in said
    assert "damaged" in said


def test_all_damaged_is_none(tmp_path: Path) -> None:
    store = saved(tmp_path, 1, 2)
    for name in names(tmp_path):
        cut(tmp_path / name)
    assert store.newest() is None


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_damage(place: float, bit: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "flipped"
    if not folder.exists():
        saved(folder, 1)
    file = folder / "step_00000001" / "state.pt"
    data = file.read_bytes()
    at = int(place * len(data))
    file.write_bytes(data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :])
    try:
        assert damage(file.parent)
    finally:
        file.write_bytes(data)
    assert not damage(file.parent)


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours handles it."""


@pytest.mark.parametrize("moment", ["rename", "checksums", "state"])
def test_killed_while_saving(moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever has been done by then, the checkpoint before is the newest, and the next start removes the rest."""
    store = saved(tmp_path, 1)

    def kill(*_: object) -> None:
        raise Killed

    if moment == "rename":
        monkeypatch.setattr(Path, "rename", kill)
    elif moment == "checksums":
        monkeypatch.setattr(checkpoint, "_publish", kill)
    else:
        monkeypatch.setattr(checkpoint, "sync", kill)
    store.save(2, state(2))
    with pytest.raises(OSError, match="could not be written"):
        store.wait()
    monkeypatch.undo()
    assert names(tmp_path) == ["step_00000001", "step_00000002.tmp"]
    again = CheckpointStore(tmp_path)
    newest = again.newest()
    assert newest is not None
    assert newest.name == "step_00000001"
    again.clean(1)
    assert names(tmp_path) == ["step_00000001"]


def test_appears_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the rename everything is there and valid."""
    store = saved(tmp_path)
    seen: list[str] = []
    rename = Path.rename

    def look(self: Path, target: Path) -> Path:
        seen.append(damage(self))
        assert not target.exists()
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", look)
    store.save(5, state(5))
    store.wait()
    assert seen == [""]


def test_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    store.clean(0)
    for step in range(1, 8):
        store.save(step, state(step), best=step == 3)
    store.wait()
    assert names(tmp_path) == ["step_00000003", "step_00000006", "step_00000007"]
    store.save(8, state(8), best=True)
    store.wait()
    assert names(tmp_path) == ["step_00000007", "step_00000008"]


def test_a_damaged_one_does_not_take_the_place_of_a_valid_one(tmp_path: Path) -> None:
    """Else, after going on from 2, keep=2 would keep the damaged 3 and remove the 2."""
    store = saved(tmp_path, 2, 3, keep=2)
    cut(tmp_path / "step_00000003")
    store.clean(2)
    assert names(tmp_path) == ["step_00000002", "step_00000003.aside"]
    store.save(3, state(3))
    store.wait()
    newest = store.newest()
    assert newest is not None
    assert newest.name == "step_00000003"
    assert names(tmp_path) == ["step_00000002", "step_00000003", "step_00000003.aside"]


def test_later_ones_are_put_aside(tmp_path: Path) -> None:
    """Going on from step 2, nothing later of the run before is ever gone on from; it is not lost either."""
    saved(tmp_path, 2, 4, 6)
    store = CheckpointStore(tmp_path, keep=1)
    store.clean(2)
    store.save(3, state(3))
    store.wait()
    newest = CheckpointStore(tmp_path).newest()
    assert newest is not None
    assert newest.name == "step_00000003"
    assert {"step_00000004.aside", "step_00000006.aside"} <= set(names(tmp_path))
    assert not damage(tmp_path / "step_00000004.aside")


def test_a_failed_write_is_said_at_the_next_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = saved(tmp_path, 1)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    store.save(2, state(2))  # asynchronous: not known yet
    with pytest.raises(OSError, match="No space left on device"):
        store.save(3, state(3))
    store.wait()  # said once


def one_rank_cannot_write(folder: Path) -> tuple[list[bool], str, float]:
    """What each rank knows after a save that fails on rank 1, what `finish` raises, and how long that takes."""
    store, whole = CheckpointStore(folder), torch.save

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    if distributed.rank() == 1:
        torch.save = full
    try:
        store.save(1, state(1))
        started, seen = time.monotonic(), list[bool]()
        while not (seen and seen[-1]) and time.monotonic() - started < 60:
            seen.append(bool(distributed.all_reduce_max(torch.tensor(int(store.failed)))))
        with pytest.raises(OSError, match="could not") as caught:
            store.finish()
        return seen[-1:], str(caught.value), time.monotonic() - started
    finally:
        torch.save = whole


def test_a_rank_that_cannot_write_ends_all_ranks_at_once(tmp_path: Path) -> None:
    """Rank 0 would wait for its file for ten minutes."""
    (_, told, seconds), (known, own, _) = run_on_ranks(one_rank_cannot_write, 2, tmp_path)
    assert known == [True]
    assert "No space left on device" in own
    assert "rank_1.pt did not appear" in told
    assert seconds < 60, "and not the 600 that rank 0 waits for a file"
    assert not names(tmp_path) or names(tmp_path) == ["step_00000001.tmp"]


def finished_on_both(folder: Path) -> list[str]:
    store = CheckpointStore(folder)
    for step in (1, 2):
        store.save(step, state(step))
    store.finish()
    return names(folder)


def test_all_ranks_know_that_all_have_written(tmp_path: Path) -> None:
    wanted = ["step_00000001", "step_00000002"]
    assert run_on_ranks(finished_on_both, 2, tmp_path) == [wanted, wanted]


def test_a_folder_that_nobody_may_write_in() -> None:
    """Not even root, who may write in any folder that is only read-only."""
    store = CheckpointStore(Path("/proc/ssltyped"))
    store.save(2, state(2))
    with pytest.raises(OSError, match="could not be written to /proc/ssltyped"):
        store.wait()


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    store = saved(tmp_path / "checkpoints", 1)
    shutil.rmtree(tmp_path / "checkpoints")
    (tmp_path / "checkpoints").write_text("")
    store.save(2, state(2))
    with pytest.raises(OSError, match="could not be written"):
        store.wait()


def test_the_copy_is_not_what_is_trained(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.zeros(4))
    copied = to_cpu({"w": weight, "list": [weight], "n": 1})
    with torch.no_grad():
        weight.add_(1)
    assert isinstance(copied, dict)
    assert torch.equal(copied["w"], torch.zeros(4))
    assert torch.equal(copied["list"][0], torch.zeros(4))
    assert not copied["w"].requires_grad
    assert copied["n"] == 1


def test_a_copy_holds_no_more_than_itself() -> None:
    """A slice of a large buffer is not saved with the buffer."""
    copied = to_cpu(torch.zeros(1000)[:2])
    assert isinstance(copied, torch.Tensor)
    assert copied.untyped_storage().nbytes() == 8


class Malicious:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch executed",)


def test_no_pickle_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even from a file whose checksum holds."""
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, 1)
    file = tmp_path / "step_00000001" / "state.pt"
    torch.save({"step": 1, "module": Malicious()}, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    (file.parent / "checksums.json").write_text(json.dumps({"state.pt": digest}))
    assert not damage(file.parent)
    with pytest.raises(ConfigError, match=r"no pickle is executed: Weights only load failed"):
        load(file.parent, CPU)
    assert not (tmp_path / "executed").exists()


UNPICKLES = {
    "torch.load(path)": "torch.load without weights_only=True",
    "torch.load(path, weights_only=False)": "torch.load without weights_only=True",
    "torch.load(path, weights_only=flag)": "torch.load without weights_only=True",
    "numpy.load(path, allow_pickle=True)": "load with allow_pickle",
    "from torch import load": "load by another name",
    "import pickle": "pickle",
    "from pickle import loads": "pickle",
    "from pickle import PicklingError": None,
    "import joblib": "joblib",
    "torch.load(path, weights_only=True)": None,
    "numpy.load(path, allow_pickle=False)": None,
}


def unpickling(source: str) -> str | None:
    """What in a module would execute what a file says, if anything does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            errors_only = all(name.name.endswith("Error") for name in node.names)
            roots = {name.name.split(".")[0] for name in node.names} | {getattr(node, "module", None) or ""}
            if errors_only:
                continue
            if found := roots & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}:
                return found.pop()
            if getattr(node, "module", None) == "torch" and any(name.name == "load" for name in node.names):
                return "load by another name"
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load"):
            continue
        given = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
        if ast.unparse(node.func) == "torch.load" and given.get("weights_only") is not True:
            return "torch.load without weights_only=True"
        if given.get("allow_pickle", False) is not False:
            return "load with allow_pickle"
    return None


@pytest.mark.parametrize("source", UNPICKLES)
def test_unpickling_is_recognised(source: str) -> None:
    assert unpickling(source) == UNPICKLES[source]


def test_nothing_else_unpickles() -> None:
    files = sorted(Path(checkpoint.__file__).parents[1].rglob("*.py"))
    assert len(files) > 100
    found = {file.name: how for file in files if (how := unpickling(file.read_text()))}
    assert found == {"closed_pickle.py": "pickle"}, "which knows arrays and nothing else: tests/weights"


def test_what_may_unpickle_knows_a_closed_list() -> None:
    """It opens no pickle but by its own subclass, which overrides how names are found."""
    tree = ast.parse(Path(closed_pickle.__file__).read_text())
    used = {ast.unparse(node) for node in ast.walk(tree) if ast.unparse(node).startswith("pickle.")}
    assert {one for one in used if "(" not in one} == {"pickle.Unpickler", "pickle.UnpicklingError", "pickle.dump"}
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert "pickle.Unpickler" not in calls
    (closed,) = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert [node.name for node in closed.body if isinstance(node, ast.FunctionDef)] == ["find_class"]


def test_buffers_of_another_rank_number(tmp_path: Path) -> None:
    """Own buffers are taken only if as many ranks go on as have saved."""
    saved(tmp_path, 1)
    path = tmp_path / "step_00000001"
    torch.save({"buffers": {"mean": torch.ones(1)}}, path / "rank_0.pt")
    assert "buffers" in load(path, CPU)
    torch.save({**state(1), "world_size": 2}, path / "state.pt")
    assert "buffers" not in load(path, CPU)


@pytest.mark.parametrize(
    ("every_epochs", "every_steps", "due"),
    [(1, None, [3, 6, 7]), (2, None, [6, 7]), (1, 2, [2, 3, 4, 6, 7]), (5, 5, [5, 7])],
)
def test_due(every_epochs: int, every_steps: int | None, due: list[int]) -> None:
    when = Checkpoints(every_epochs=every_epochs, every_steps=every_steps)
    assert [step for step in range(1, 8) if when.due(step, 3, 7)] == due


class Opens:
    """What a pickle can do: here it writes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str, str], object], tuple[str, str]]:
        return open, (str(self.path), "w")


def replaced_file(checkpoint_folder: Path, content: object, *, as_torch: bool) -> None:
    """Other content, with checksums that are right."""
    file = checkpoint_folder / "state.pt"
    if as_torch:
        torch.save(content, file)
    else:
        assert isinstance(content, bytes)
        file.write_bytes(content)
    listing = {"state.pt": hashlib.sha256(file.read_bytes()).hexdigest()}
    (checkpoint_folder / "checksums.json").write_text(json.dumps(listing))


@pytest.mark.parametrize("content", [b"", b"not torch's", b"PK\x03\x04cut", pickle.dumps([1]), b"\x80\x05\x95"])
def test_right_checksums_of_a_file_that_is_not_torchs(content: bytes, tmp_path: Path) -> None:
    path = saved(tmp_path, 4).newest()
    assert path is not None
    replaced_file(path, content, as_torch=False)
    assert damage(path) == ""
    with pytest.raises(ConfigError, match=r"^resume: .*state\.pt cannot be read") as caught:
        complete(load(path, CPU), path)
    assert "\n" not in str(caught.value)


def test_a_pickle_in_a_checkpoint_is_not_executed(tmp_path: Path) -> None:
    path = saved(tmp_path, 4).newest()
    assert path is not None
    for content in ({"step": Opens(tmp_path / "executed")}, Opens(tmp_path / "executed")):
        replaced_file(path, content, as_torch=True)
        with pytest.raises(ConfigError, match=r"^resume: .*no pickle is executed"):
            load(path, CPU)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [3, [1], {}, {"step": "4"}, {"module": {}, "step": 4}])
def test_what_torch_reads_and_is_no_state(content: object, tmp_path: Path) -> None:
    path = saved(tmp_path, 4).newest()
    assert path is not None
    replaced_file(path, content, as_torch=True)
    with pytest.raises(ConfigError, match=r"^resume: .*step_00000004 is no checkpoint of a run: .*optimizer"):
        complete(load(path, CPU), path)
