"""A run lists each folder of its images once, however often it asks what is in it; what it leaves out is said once."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import pytest
from images import write, write_plain

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
        "data.val.transforms.0.size=8", "data.val.num_workers=0", "+callbacks=KNN", "callbacks.4.k=3",
    ]  # fmt: skip
    said = "2 files left out, no images by their suffix: 1 .heic, 1 .txt"
    assert main(["recipes.simclr_folder", "--plan", *overrides]) == 0
    assert capfd.readouterr().out.count(f"data.train: {images}: {said}") == 1
    assert main(["recipes.simclr_folder", *overrides]) == 0
    assert capfd.readouterr().out.count(f"data.train: {images}: {said}") == 1
    assert {folder: listed[folder] for folder in folders} == dict.fromkeys(folders, 1)


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
