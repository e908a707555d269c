"""A run lists each folder of its images once, however often it asks what is in it; what it leaves out is said once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from images import write, write_plain
from tiny import environment

from ssltyped.run import main


def test_once_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    images = tmp_path / "images"
    folders = [images, *(images / name for name in ("ant", "bee"))]
    for folder in folders[1:]:
        write_plain(folder, 6)
    write(images, {"bee/6.heic": b"", "notes.txt": b""})
    for folder in folders:
        os.utime(folder, (time.time() - 100, time.time() - 100))
    listed: Counter[Path] = Counter()
    scandir = os.scandir

    def counted(path: str) -> object:
        listed[Path(path)] += 1
        return scandir(path)

    monkeypatch.setattr("os.scandir", counted)
    overrides = [
        f"data.train.path={images}", "data.train.num_workers=0", "data.train.batch_size=4", "epochs=1",
        "trunk.width_multiplier=0.125", "data.train.views.transforms.0.size=16", f"output={tmp_path}", "name=run",
        "data.val=EvalSplit", f"data.val.path={images}", "data.val.transforms=[CenterCrop]",
        "data.val.transforms.0.size=8", "data.val.num_workers=0", "+callbacks=KNN", "callbacks.5.k=3",
    ]  # fmt: skip
    said = "2 files left out, no images by their suffix: 1 .heic, 1 .txt"
    assert main(["recipes.simclr_folder", "--plan", *overrides]) == 0
    assert capfd.readouterr().out.count(f"data.train: {images}: {said}") == 1
    assert main(["recipes.simclr_folder", *overrides]) == 0
    assert capfd.readouterr().out.count(f"data.train: {images}: {said}") == 1
    assert {folder: listed[folder] for folder in folders} == dict.fromkeys(folders, 1)


COUNTED = """
import os
import sys
from pathlib import Path

from ssltyped import launch
from ssltyped.config import config_for, replaced
from ssltyped.data.sources import FlatFolderConf
from tiny import Patches, tiny

FOLDER = Path(__file__).parent

def note(what):
    with open(FOLDER / "noted.txt", "a") as file:
        file.write(f"{what} {os.getpid()}\\n")

class Asked(Patches):
    def label(self, index):
        note("asked")
        return super().label(index)

AskedConf = config_for(Asked)

def hook(event, args):
    if event == "os.scandir" and str(args[0]).startswith(str(FOLDER / "images")):
        note("listed")

if __name__ == "counted":
    sys.addaudithook(hook)
else:
    import counted
    train = {"data.train.source": counted.AskedConf(count=24), "data.train.batch_size": 2, "distributed.num_procs": 2}
    val = {"data.val.source": FlatFolderConf(path=FOLDER / "images"), "data.val.transforms.0.size": 8}
    launch(replaced(tiny(output=FOLDER / "runs", steps=1, evaluated=True), {**train, **val}))
"""


@pytest.mark.parametrize("by", ["torchrun", pytest.param("us", marks=pytest.mark.slow)])
def test_once_for_all_ranks(by: str, tmp_path: Path) -> None:
    """However they were started: one process lists the folders, and asks for more labels than it trains on."""
    for name in ("ant", "bee"):
        write_plain(tmp_path / "images" / name, 6)
    for folder in (tmp_path / "images", *(tmp_path / "images").iterdir()):
        os.utime(folder, (time.time() - 100, time.time() - 100))
    (tmp_path / "counted.py").write_text(COUNTED)
    run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"] if by == "torchrun" else []
    own = {**environment(), "PYTHONPATH": f"{environment()['PYTHONPATH']}:{tmp_path}"}
    ended = subprocess.run(
        [sys.executable, *run, str(tmp_path / "counted.py")], env=own, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    noted = Counter((tmp_path / "noted.txt").read_text().splitlines())
    assert sum(count for what, count in noted.items() if what.startswith("listed")) == 3
    assert sum(count >= 24 for what, count in noted.items() if what.startswith("asked")) == 1


def test_an_empty_class_folder_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("ant", "bee"):
        write_plain(tmp_path / "images" / name, 6)
    (tmp_path / "images" / "zebra").mkdir()
    images, val = (f"data.{split}.path={tmp_path / 'images'}" for split in ("train", "val"))
    for needs in (
        [
            "+callbacks=KNN",
            "data.val=EvalSplit",
            "data.val.transforms=[CenterCrop]",
            val,
        ],
        ["loss=CrossEntropyLoss", "heads.projector.dims=[2]", "data.train.views.num_views=1"],
    ):
        assert main(["recipes.simclr_folder", images, f"output={tmp_path}", "data.train.batch_size=4", *needs]) == 2
        assert "not every sub-folder holds images (zebra)" in capfd.readouterr().err
