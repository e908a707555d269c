"""A trained model that only teaches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import tiny

from ssltyped import config
from ssltyped.cli.plan import plan
from ssltyped.config import ConfigError
from ssltyped.heads.mlp import MLPHead, MLPHeadConf
from ssltyped.launch import launch
from ssltyped.losses.distillation import DistillationLossConf
from ssltyped.losses.frozen_teacher import FrozenTeacher, FrozenTeacherConf
from ssltyped.losses.sum_loss import SumLossConf
from ssltyped.trunks.resnet import ResNet, ResNetConf, Stem
from ssltyped.types import Loss


def teacher(weights: Path, width: int = 8) -> FrozenTeacher:
    trunk = ResNet(depth=18, width_multiplier=0.125, stem=Stem.SMALL)
    return FrozenTeacher(trunk=trunk, heads={"projector": MLPHead(dims=[16, width], in_dim=64)}, weights=weights)


def distilled(weights: Path) -> Loss:
    trunk = ResNetConf(depth=18, width_multiplier=0.125, stem=Stem.SMALL)
    heads = {"projector": MLPHeadConf(dims=[16, 8])}
    return DistillationLossConf(teacher=FrozenTeacherConf(trunk=trunk, heads={**heads}, weights=weights))


def test_a_finished_run_teaches_the_next_one(tmp_path: Path) -> None:
    first = launch(tiny(output=tmp_path, steps=2), name="first")
    weights = first.folder / "weights.pt"
    taught = teacher(weights)
    taught.load()
    for name, value in first.model.state_dict().items():
        assert torch.equal(taught.model.state_dict()[name], value)
    asked = config.replaced(tiny(output=tmp_path, steps=2, loss=distilled(weights)), {"name": "second"})
    assert "DistillationLoss" in plan(asked, "second")
    second = launch(asked)
    assert second.first["loss"] > 0, "the student starts elsewhere"


def test_it_learns_nothing_and_stays_in_eval_mode() -> None:
    taught = teacher(Path("nowhere.pt")).train()
    assert not taught.model.training
    assert not any(parameter.requires_grad for parameter in taught.parameters())
    (out,) = taught([torch.zeros(2, 3, 16, 16)])
    assert out.shape == (2, 8)
    assert not out.requires_grad


def test_other_weights_are_refused(tmp_path: Path) -> None:
    state = teacher(Path("x")).model.state_dict()
    file = tmp_path / "weights.pt"
    torch.save({name.replace("heads", "haeds"): value for name, value in state.items()}, file)
    with pytest.raises(
        ValueError, match=r"heads.projector.layers.0.weight is missing; did you mean 'haeds.projector.layers.0.weight'"
    ):
        teacher(file).load()
    torch.save(state, file)
    with pytest.raises(
        ValueError, match=r"heads.projector.layers.2.weight has the shape \(8, 16\), and \(9, 16\) is needed"
    ):
        teacher(file, width=9).load()


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04junk", b"\x80\x02}q\x00.", b"hello world, no weights"])
def test_a_file_that_is_something_else_is_told(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"^weights: .*weights.pt cannot be read as weights: "):
        teacher(file).load()


@pytest.mark.parametrize("content", [[1, 2], {"module": {"a": 1}}])
def test_a_file_of_something_else_than_weights_is_told(content: object, tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save(content, file)
    with pytest.raises(ConfigError, match=r"^weights: .* holds no tensors by name: give the weights.pt"):
        teacher(file).load()


def test_the_command_tells_wrong_weights(tmp_path: Path) -> None:
    """A run needs them, and ends as one with a mistake."""
    file = tmp_path / "weights.pt"
    asked = tiny(output=tmp_path, steps=1, loss=distilled(file))
    file.write_bytes(b"junk")
    with pytest.raises(ConfigError, match="cannot be read as weights"):
        launch(asked)
    torch.save(teacher(file, width=9).model.state_dict(), file)
    with pytest.raises(
        ConfigError, match=r"^loss.teacher.weights: .* is not of this teacher: heads.projector.layers.2.weight"
    ):
        launch(asked)


def test_the_teacher_of_a_part_of_a_sum_is_named_by_its_own_path(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    file.write_bytes(b"junk")
    sum_of_one = SumLossConf(losses={"taught": distilled(file)})
    with pytest.raises(ConfigError, match=r"^loss\.losses\.taught\.teacher\.weights: .*cannot be read as weights"):
        launch(tiny(output=tmp_path, steps=1, loss=sum_of_one))


def test_missing_weights_are_found_by_the_plan(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"loss.teacher.weights: .*gone.pt does not exist"):
        plan(tiny(output=tmp_path, steps=2, loss=distilled(tmp_path / "gone.pt")), "run")
