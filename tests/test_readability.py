"""Small enough to read: from the command line to `.backward()` there are at most 5 functions of ours in 4 files."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
import torch

import ssltyped
from ssltyped.run import main


def test_frames_from_command_line_to_backward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = str(Path(ssltyped.__file__).parent)
    stacks: list[list[traceback.FrameSummary]] = []
    backward = torch.autograd.backward

    def watched(tensor: torch.Tensor) -> None:
        stacks.append([frame for frame in traceback.extract_stack() if frame.filename.startswith(package)])
        backward(tensor)

    monkeypatch.setattr(torch.autograd, "backward", watched)
    overrides = ["steps=1", "epochs=null", "data.train.batch_size=8", "data.train.num_workers=0", f"output={tmp_path}"]
    assert main(["recipes.quickstart", *overrides, "callbacks=[]"]) == 0
    functions = [f"{Path(frame.filename).name}:{frame.name}" for frame in stacks[0]]
    assert len({name.split(":")[0] for name in functions}) <= 4, functions
    assert len(functions) <= 5, functions
