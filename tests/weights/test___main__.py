"""The command line: what it writes, and one clear error for what it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision.models.mobilenetv3 import mobilenet_v3_small

from ssltyped.weights.__main__ import main


def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file.pth"
    torch.save(mobilenet_v3_small().state_dict(), file)

    def error(*words: str) -> str:
        assert main(["export", str(file), "--to", *words]) == 2
        told = capsys.readouterr().err
        assert told.startswith(f"error: {file} is not exported:\n  ")
        assert told.count("\n") == 2
        return told

    there = tmp_path / "there"
    there.write_text("mine")
    assert "to: hf does not have this MobileNetV3: nothing there computes the same; it can go to" in error("hf", "x")
    assert f"out: {there} is there already: --overwrite lets it be replaced" in error("torchvision", str(there))
    assert "is no folder" in error("torchvision", str(tmp_path / "no" / "out"))
    assert there.read_text() == "mine"
    assert main(["export", str(file), "--to", "torchvision", str(there), "--overwrite"]) == 0
    assert torch.load(there, weights_only=True).keys()
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "mine").touch()
    assert "is a folder, which is not replaced" in error("torchvision", str(folder), "--overwrite")
    assert main(["show", str(tmp_path / "nothing")]) == 2
    assert "path: " in capsys.readouterr().err
    with pytest.raises(SystemExit) as left:
        main(["export", str(file), "--to", "tensorflow", "x"])
    assert left.value.code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.pth", "folder", "there"]
