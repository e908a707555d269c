"""What `show` prints of a file and of a run; what is exported comes back."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
from tiny import TORCHRUN, tiny
from torchvision import models

from recipes.quickstart import recipe
from ssltyped import config, launch
from ssltyped.trunks.resnet import ResNetConf
from ssltyped.weights.__main__ import main
from ssltyped.weights.pretrained import pretrained


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)


def test_a_file_and_the_overrides_that_load_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = {f"module.encoder_q.{n}": value for n, value in models.resnet18().state_dict().items()}
    file = tmp_path / "moco.pth"
    torch.save({"arch": "resnet18", "epoch": 200, "state_dict": state}, file)
    assert main(["show", str(file)]) == 0
    told = capsys.readouterr().out
    assert "says       arch resnet18, epoch 200" in told
    assert "is         MoCo: state_dict.module.encoder_q" in told
    assert f"fits       trunk=ResNet trunk.depth=18 +init=Load init.0.path={file}\n" in told
    assert "120 of 120 tensors, 100.0% of the parameters; left in the file: fc" in told
    overrides = re.search(r"fits +(.*)", told)
    assert overrides is not None
    made = config.override(recipe, overrides[1].split())
    assert made.trunk == ResNetConf(depth=18)
    assert config.get(made, "init.0.path") == file


@pytest.mark.parametrize("name", ["a b.pth", "my, own=file.pth", "it's.pth"])
def test_the_path_that_is_shown_is_the_path(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / name
    torch.save(models.resnet18().state_dict(), file)
    assert main(["show", str(file)]) == 0
    overrides = re.search(r"fits +(.*)", capsys.readouterr().out)
    assert overrides is not None
    assert config.get(config.override(recipe, shlex.split(overrides[1])), "init.0.path") == file


def test_what_no_trunk_fits_is_shown_all_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"a.weight": torch.zeros(3), "b.weight": torch.zeros(2)}, tmp_path / "file.pth")
    assert main(["show", str(tmp_path / "file.pth")]) == 0
    told = capsys.readouterr().out
    assert "2 tensors, 5 values: a 1, b 1" in told
    assert "has the tensors of no trunk of ours; their names start with a, b" in told


def test_a_run_goes_home_and_comes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Through safetensors with all that a run offers, and through VISSL's format with its heads."""
    run = launch(tiny(output=tmp_path, steps=1))
    asked = pretrained(run.folder)
    capsys.readouterr()
    for target in ("safetensors", "vissl"):
        out = tmp_path / f"out.{target}"
        assert main(["export", str(run.folder), "--to", target, str(out)]) == 0
        assert f"{out}: ResNet, flatten (64 values an image) of images of {asked.image_size} pixels" in (
            capsys.readouterr().out
        )
        assert main(["show", str(out)]) == 0
        assert "120 of 120 tensors, 100.0% of the parameters" in capsys.readouterr().out
        into = config.replaced(asked.load, {"path": out, "into": ""})
        model = run.model
        wanted = {name: value.clone() for name, value in model.state_dict().items()}
        for value in model.state_dict().values():
            value.zero_()
        assert config.build(into)(model).share == 1, "heads too"
        assert all(torch.equal(value, wanted[name]) for name, value in model.state_dict().items())
    found = pretrained(tmp_path / "out.safetensors")
    for field in ("trunk", "heads", "mean", "std", "image_size"):
        assert getattr(found, field) == getattr(asked, field)
