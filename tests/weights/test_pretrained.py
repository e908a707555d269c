"""What a run offers to whoever goes on with it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from measured import labelled
from tiny import SIZE, TORCHRUN, tiny
from torchvision.models import resnet18, resnet34

from ssltyped import build, launch
from ssltyped.config import ConfigError
from ssltyped.model.files import write_weights
from ssltyped.tasks.knn import KNNEvalConf
from ssltyped.tasks.running import plan_task
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


def test_it_does_not_matter_from_where_a_path_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = launch(tiny(output=tmp_path, steps=1))
    (checkpoint,) = (run.folder / "checkpoints").iterdir()
    for folder, relative in ((run.folder.parent, run.folder.name), (run.folder, "."), (run.folder, "weights.pt"),
                             (checkpoint.parent, checkpoint.name), (checkpoint, ".")):  # fmt: skip
        monkeypatch.chdir(folder)
        found = pretrained(Path(relative))
        assert (found.image_size, found.origin) == (SIZE, "a run of ours"), relative


def test_weights_that_do_not_say_what_they_are_are_not_taken_for_torchvisions(tmp_path: Path) -> None:
    run = launch(tiny(output=tmp_path, steps=1), ["trunk.width_multiplier=1", "trunk.stem=imagenet"])
    write_weights(tmp_path / "old.pt", run.model, {"method": "SimCLRLoss"})  # as they were written once
    found = pretrained(tmp_path / "old.pt")
    assert found.origin == "weights of ours, without their run"
    assert "ImageNet's" in found.assumed["mean"]
    task = KNNEvalConf(weights=tmp_path / "old.pt", data=labelled(20))
    assert "weights: do not say their mean" in "\n".join(plan_task(task, "knn"))


def test_a_run_that_this_version_cannot_read_is_known_by_its_weights(tmp_path: Path) -> None:
    run = launch(tiny(output=tmp_path, steps=1))
    (checkpoint,) = (run.folder / "checkpoints").iterdir()
    now, resolved = pretrained(run.folder), run.folder / "resolved.yaml"
    resolved.write_text(resolved.read_text().replace("  temperature:", "  warmth:"))
    then = pretrained(run.folder)
    assert dataclasses.replace(then, origin=now.origin, load=now.load) == now
    with pytest.raises(ConfigError, match=r"weights: .*resolved\.yaml is not a config of this version: loss\.warmth: "):
        pretrained(checkpoint)


def test_a_run_that_trained_nothing_names_what_it_measured(tmp_path: Path) -> None:
    run = launch(tiny(output=tmp_path, steps=1))
    measured = launch(KNNEvalConf(weights=run.folder, data=labelled(20), output=tmp_path / "knn", ks=[3]))
    with pytest.raises(ConfigError, match=rf"trained nothing; it measured {run.folder}: give that"):
        pretrained(measured.folder)


def test_a_broken_file_beside_foreign_weights_is_named(tmp_path: Path) -> None:
    torch.save(resnet18().state_dict(), tmp_path / "network.pth")
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"preprocessor_config\.json is no JSON"):
        pretrained(tmp_path / "network.pth")


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
