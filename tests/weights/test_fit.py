"""Several networks in one file: the one that is meant is found, and where nothing says which, that is said."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ssltyped.config import ConfigError
from ssltyped.heads.mlp import MLPHead
from ssltyped.trunks.resnet import ResNet
from ssltyped.trunks.vit import VisionTransformer
from ssltyped.weights.fit import fits
from ssltyped.weights.load import Load, LoadReport

TRUNK = ResNet(depth=18, width_multiplier=0.125)


def copy(value: float) -> dict[str, Tensor]:
    return {name: torch.full_like(tensor, value) for name, tensor in TRUNK.state_dict().items()}


def under(**copies: float) -> dict[str, Tensor]:
    return {f"{prefix}.{n}": tensor for prefix, value in copies.items() for n, tensor in copy(value).items()}


def loaded(folder: Path, state: object, **fields: object) -> tuple[float, LoadReport]:
    """The value that a trunk was filled with."""
    torch.save(state, folder / "file.pth")
    trunk = ResNet(depth=18, width_multiplier=0.125)
    report = Load(path=folder / "file.pth", **fields)(nn.ModuleDict({"trunk": trunk}))  # type: ignore[arg-type]  # by name
    return float(trunk.conv1.get_parameter("weight").flatten()[0]), report


@pytest.mark.parametrize(
    ("copies", "wanted"),
    [
        ({"encoder_k": 1.0, "encoder_q": 2.0}, 2.0),
        ({"student": 1.0, "teacher": 2.0}, 2.0),
        ({"target_network": 1.0, "online_network": 2.0}, 2.0),
        ({"backbone_momentum": 1.0, "backbone": 2.0}, 2.0),
        ({"momentum_encoder": 1.0, "base_encoder": 2.0}, 2.0),
        ({"model_ema": 1.0, "model": 2.0}, 2.0),
    ],
)
def test_the_copy_that_a_method_is_for(copies: dict[str, float], wanted: float, tmp_path: Path) -> None:
    assert loaded(tmp_path, under(**copies))[0] == wanted


def test_two_networks_of_which_nothing_says_which_is_meant(tmp_path: Path) -> None:
    state = under(left=1.0, right=2.0)
    with pytest.raises(
        ConfigError, match=r"prefix: .*file.pth has several networks that fit: say one of 'left', 'right'"
    ):
        loaded(tmp_path, state)
    assert loaded(tmp_path, state, prefix="right")[0] == 2.0
    assert loaded(tmp_path, {"a": state, "b": under(left=3.0)}, key="b")[0] == 3.0


def test_what_recognition_cannot_know_is_said(tmp_path: Path) -> None:
    """VISSL's state_dict key, prefixes to remove and to append, and layers to skip."""
    value, report = loaded(tmp_path, {"a": {"b": under(net=4.0)}}, key="a.b", prefix="net", skip=["layer4", "bn1"])
    assert value == 4.0
    assert report.missing == ()
    assert 0 < report.share < 1
    assert not [name for name in report.matched if "layer4" in name or "bn1" in name]
    inner = {name.removeprefix("conv1."): tensor for name, tensor in copy(5.0).items() if name.startswith("conv1.")}
    missing = ["bn1", "layer1", "layer2", "layer3", "layer4"]
    assert loaded(tmp_path, under_name("stem", inner), prefix="stem", append_prefix="conv1", may_miss=missing)[0] == 5.0
    with pytest.raises(ConfigError, match=r"key: nothing in the file starts with 'modl'; did you mean 'model'"):
        loaded(tmp_path, {"model": copy(1.0)}, key="modl")


def under_name(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in state.items()}


def test_two_of_many_tensors_of_somebody_elses_are_refused(tmp_path: Path) -> None:
    few = {
        name: tensor for name, tensor in under(encoder_q=1.0).items() if "layer1.0.conv1" in name or "q.conv1" in name
    }
    with pytest.raises(ConfigError, match=r"does not fill the part: .*2 of 100 tensors.*; missing: bn1.weight"):
        loaded(tmp_path, few)
    with pytest.raises(ConfigError, match=r"without a place: layer1\.2\.conv1\.weight"):
        loaded(tmp_path, {**copy(1.0), "layer1.2.conv1.weight": torch.zeros(1)})


def test_another_network_is_told(tmp_path: Path) -> None:
    vit = VisionTransformer(image_size=32, patch_size=16, num_layers=1, num_heads=1, hidden_dim=8, mlp_dim=8)
    with pytest.raises(
        ConfigError, match=r"path: .*file.pth has no ResNet that is known by its names, which start with"
    ):
        loaded(tmp_path, vit.state_dict())


def test_positions_and_patches_of_another_size_are_interpolated_and_said(tmp_path: Path) -> None:
    def vit(size: int, patch: int) -> VisionTransformer:
        return VisionTransformer(image_size=size, patch_size=patch, num_layers=1, num_heads=1, hidden_dim=8, mlp_dim=8)

    torch.save(vit(64, 16).state_dict(), tmp_path / "file.pth")
    other = vit(48, 8)
    report = Load(path=tmp_path / "file.pth")(nn.ModuleDict({"trunk": other}))
    assert report.share == 1
    assert "interpolated: " in str(report)
    assert "pos_embed: 4 x 4 to 6 x 6 patches" in str(report)
    assert "patch_embed.proj.weight: patches of 16 to 8 pixels" in str(report)
    assert other.state_dict()["pos_embed"].isfinite().all()


def test_the_trunk_of_a_teacher_and_a_piece_of_a_trunk(tmp_path: Path) -> None:
    torch.save(under(encoder_q=3.0), tmp_path / "file.pth")
    root = nn.ModuleDict({"loss": nn.ModuleDict({"teacher": ResNet(depth=18, width_multiplier=0.125)})})
    assert Load(path=tmp_path / "file.pth", into="loss.teacher")(root).share == 1
    trunk = ResNet(depth=18, width_multiplier=0.125)
    before = trunk.conv1.get_parameter("weight").clone()
    report = Load(path=tmp_path / "file.pth", into="trunk.layer2")(nn.ModuleDict({"trunk": trunk}))
    assert report.share == 1
    assert trunk.get_parameter("layer2.0.conv1.weight").eq(3).all()
    assert torch.equal(trunk.conv1.get_parameter("weight"), before)


def test_a_head_and_a_piece_of_a_trunk_under_another_prefix(tmp_path: Path) -> None:
    """Names of ours, of which nothing need be recognised."""
    head = MLPHead(in_dim=4, dims=[3])
    torch.save(under_name("net.projection", head.state_dict()), tmp_path / "file.pth")
    root = nn.ModuleDict({"trunk": TRUNK, "heads": nn.ModuleDict({"a": MLPHead(in_dim=4, dims=[3])})})
    assert Load(path=tmp_path / "file.pth", into="heads.a", prefix="net.projection")(root).share == 1
    assert torch.equal(root.get_parameter("heads.a.layers.0.weight"), head.get_parameter("layers.0.weight"))
    piece = {name: tensor for name, tensor in copy(6.0).items() if name.startswith("layer4")}
    missing = ["conv1", "bn1", "layer1", "layer2", "layer3"]
    assert loaded(tmp_path, under_name("net", piece), prefix="net", may_miss=missing)[1].missing != ()
    with pytest.raises(ConfigError, match=r"path: .*file.pth has no names of ours for heads.a"):
        Load(path=tmp_path / "file.pth", into="heads.a")(root)


def test_the_best_reading_is_the_first() -> None:
    found = fits(TRUNK, {**under(encoder_k=1.0, encoder_q=2.0), "encoder_q.fc.weight": torch.zeros(1)}, "")
    assert [fit.prefix for fit in found[:2]] == ["encoder_q.", "encoder_q."] or found[0].prefix == "encoder_q."
    assert found[0].beside == ("fc.weight",)
