"""What a run offers to whoever goes on with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import SIZE, TORCHRUN, tiny
from torchvision.models import resnet18, resnet34

from ssltyped import build, launch
from ssltyped.config import ConfigError
from ssltyped.trunks.resnet import ResNetConf
from ssltyped.weights.pretrained import pretrained
from ssltyped.weights.stored import Stored, read_stored


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)


def test_a_run_its_weights_and_its_checkpoint(tmp_path: Path) -> None:
    run = launch(tiny(output=tmp_path, steps=1))
    (checkpoint,) = (run.folder / "checkpoints").iterdir()
    for path in (run.folder, run.folder / "weights.pt", checkpoint):
        found = pretrained(path)
        trunk = build(found.trunk)
        report = build(found.load)(torch.nn.ModuleDict({"trunk": trunk}))
        assert report.share == 1.0
        state = run.model.trunk.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in trunk.state_dict().items())
        assert found.image_size == SIZE
        assert list(found.heads) == ["projector"]


def test_what_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"weights: .*nothing does not exist"):
        pretrained(tmp_path / "nothing")
    (tmp_path / "file.pt").touch()
    with pytest.raises(ConfigError, match=r"weights: .*file\.pt cannot be read as weights"):
        pretrained(tmp_path / "file.pt")


def test_a_large_file_is_read_once_and_again_when_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def counted(path: Path) -> Stored:
        read.append(path)
        return read_stored(path)

    monkeypatch.setattr("ssltyped.weights.pretrained.read_stored", counted)
    file = tmp_path / "network.pth"
    torch.save(resnet18().state_dict(), file)
    assert pretrained(file) == pretrained(file)
    assert read == [file]
    torch.save(resnet34().state_dict(), file)
    assert pretrained(file).trunk == ResNetConf(depth=34)
    assert len(read) == 2
