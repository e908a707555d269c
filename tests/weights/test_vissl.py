"""Whole models under VISSL's names: the keys of a checkpoint that it wrote, files of its kind in and out, mistakes."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor
from torchvision.models import resnet18

from ssltyped.heads.mlp import MLPHead
from ssltyped.heads.plumbing import HeadSequence
from ssltyped.model.files import read_file
from ssltyped.model.model import SSLModel
from ssltyped.trunks.beit import BEiT
from ssltyped.trunks.libraries import TorchvisionTrunk
from ssltyped.trunks.resnet import ResNet
from ssltyped.types import Head
from ssltyped.weights.vissl import EVALUATED, Leaf, checkpoint_entries, model_layout

RECORDED = Path(__file__).parents[1] / "golden" / "vissl_checkpoint.json"
LEAVES = [Leaf("heads.projector.heads.0", "heads.0", "mlp"), Leaf("heads.projector.heads.1", "heads.1", "mlp")]


@dataclass
class Entry:
    shape: list[int]
    abs_sum: float


def recorded() -> dict[str, Entry]:
    """Of each tensor in a checkpoint that VISSL wrote: its shape, and the sum of its absolute values."""
    return TypeAdapter(dict[str, Entry]).validate_json(RECORDED.read_bytes())


def model() -> SSLModel:
    """What that checkpoint is of: ResNet-18 of width 1/8 with SimCLR's head."""
    heads: list[Head] = [MLPHead(in_dim=64, dims=[64]), MLPHead(in_dim=64, dims=[32])]
    trunk = ResNet(depth=18, width_multiplier=0.125)
    return SSLModel(trunk=trunk, heads={"projector": HeadSequence(heads=heads, in_dim=64)})


def like_recorded() -> dict[str, Tensor]:
    """Tensors of the shapes and sums of that checkpoint, equal values in each."""
    return {
        key: torch.full(entry.shape, entry.abs_sum / max(1, torch.Size(entry.shape).numel()))
        for key, entry in recorded().items()
    }


def saved(path: Path, state: dict[str, Tensor]) -> Path:
    """A file as VISSL writes it."""
    parts = {
        part: {key.removeprefix(f"{part}."): value for key, value in state.items() if key.startswith(f"{part}.")}
        for part in ("trunk", "heads")
    }
    torch.save({"phase_idx": 1, "classy_state_dict": {"base_model": {"model": parts, "meta": {}}}}, path)
    return path


def test_the_keys_and_shapes_are_those_of_the_checkpoint_in_its_order() -> None:
    made = model()
    theirs = model_layout(made, LEAVES).export(made)
    assert [(key, list(value.shape)) for key, value in theirs.items()] == [
        (key, entry.shape) for key, entry in recorded().items()
    ]


def test_a_file_is_read_into_the_model_whole(tmp_path: Path) -> None:
    made, theirs = model(), like_recorded()
    layout = model_layout(made, LEAVES)
    layout.load(made, checkpoint_entries(read_file(saved(tmp_path / "model.torch", theirs))))
    for key, entry in recorded().items():
        assert float(layout.export(made)[key].double().abs().sum()) == pytest.approx(entry.abs_sum, rel=1e-5)
    assert torch.equal(made.get_parameter("trunk.conv1.weight"), theirs["trunk._feature_blocks.conv1.weight"])
    assert torch.equal(made.get_parameter("heads.projector.heads.1.layers.0.bias"), theirs["heads.1.clf.0.bias"])


def test_a_trunk_whose_features_are_pooled_is_one_level_down() -> None:
    made = model()
    keys = list(model_layout(made, LEAVES, EVALUATED).export(made))
    assert keys[0] == "trunk.base_model._feature_blocks.conv1.weight"


def test_what_a_trunk_drops_and_reshapes_it_does_in_a_model_too() -> None:
    trunk = BEiT(image_size=32, num_layers=1, num_heads=2, hidden_dim=8)
    made = SSLModel(trunk=trunk, heads={}, extra=["lastCLS"])
    layout = model_layout(made, [])
    theirs = layout.export(made)
    assert not [key for key in theirs if "fc_norm" in key]
    assert all(key.startswith("trunk.") for key in theirs)
    layout.load(made, {key: torch.full_like(value, 2) for key, value in theirs.items()})
    assert (made.get_parameter("trunk.cls_token") == 2).all()
    assert not (made.get_parameter("trunk.fc_norm.weight") == 2).any()


def test_weights_that_do_not_fit_are_named() -> None:
    made, theirs = model(), like_recorded()
    theirs["heads.2.clf.0.bias"] = theirs.pop("heads.1.clf.0.bias")
    with pytest.raises(ValueError, match=re.escape("heads.1.clf.0.bias is missing")):
        model_layout(made, LEAVES).load(made, theirs)


def test_what_has_no_names_there_is_said() -> None:
    with pytest.raises(ValueError, match="TorchvisionTrunk is no trunk of VISSL"):
        model_layout(SSLModel(trunk=TorchvisionTrunk(name="resnet18"), heads={}, extra=["avgpool"]), [])
    with pytest.raises(ValueError, match="the names of mpl in VISSL are not known; did you mean 'mlp'"):
        model_layout(model(), [Leaf("heads.projector.heads.0", "heads.0", "mpl")])


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    torch.save(resnet18(num_classes=2).state_dict(), tmp_path / "other.pth")
    with pytest.raises(ValueError, match="is no checkpoint of VISSL: it has no 'classy_state_dict'"):
        checkpoint_entries(read_file(tmp_path / "other.pth"))
    torch.save({"classy_state_dict": {"base_modul": {}}}, tmp_path / "half.pth")
    with pytest.raises(ValueError, match="it has no 'base_model'; did you mean 'base_modul'"):
        checkpoint_entries(read_file(tmp_path / "half.pth"))
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="is no checkpoint of VISSL"):
        checkpoint_entries(read_file(tmp_path / "list.pth"))
