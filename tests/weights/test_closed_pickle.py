"""Caffe2's pickles: arrays come out, code does not run."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models
from weights.published import drawn

from ssltyped import build
from ssltyped.trunks.alexnet import AlexNet, AlexNetVariant
from ssltyped.trunks.base import InputColor
from ssltyped.weights.closed_pickle import read_arrays
from ssltyped.weights.pretrained import pretrained

NORM = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}
BRANCHES = {"conv1": "2a", "conv2": "2b", "conv3": "2c", "bn1": "2a_bn", "bn2": "2b_bn", "bn3": "2c_bn"}
SHORTCUT = {"downsample.0": "1", "downsample.1": "1_bn"}


def caffe2(name: str) -> str:
    """Torchvision's name of an entry of a ResNet as Detectron's models have it."""
    place, _, entry = name.rpartition(".")
    if "." not in place:
        return "conv1_w" if place == "conv1" else f"res_conv1_bn_{NORM[entry]}"
    stage, block, layer = place.split(".", 2)
    branch = {**BRANCHES, **SHORTCUT}[layer]
    return f"res{int(stage[-1]) + 1}_{block}_branch{branch}_{NORM[entry] if branch.endswith('bn') else 'w'}"


def blobs(network: nn.Module) -> dict[str, object]:
    state = {name: value for name, value in network.state_dict().items() if "num_batches" not in name}
    arrays = {caffe2(name): value.numpy() for name, value in state.items() if not name.startswith("fc.")}
    return {**arrays, "pred_w": np.zeros((3, 4), np.float32), "conv1_w_momentum": np.zeros(3), "lr": np.float32(0.1)}


@pytest.mark.parametrize("protocol", [0, 2, pickle.HIGHEST_PROTOCOL])
def test_a_resnet_of_caffe2_sees_bgr_images_as_torchvisions_sees_rgb(protocol: int, tmp_path: Path) -> None:
    network = drawn(models.resnet18())
    assert isinstance(network, models.ResNet)
    network.add_module("fc", nn.Identity())
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"blobs": blobs(network)}, protocol=protocol))
    found = pretrained(tmp_path / "model.pkl")
    assert found.origin == "Caffe2"
    trunk = build(found.trunk).eval()
    assert build(found.load)(nn.ModuleDict({"trunk": trunk})).share == 1
    assert "input.color" in found.assumed
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        (got,) = trunk(images.flip(1), ["flatten"])
        torch.testing.assert_close(got, network(images), rtol=1e-5, atol=1e-5)


def test_an_alexnet_of_caffe2(tmp_path: Path) -> None:
    trunk = AlexNet(variant=AlexNetVariant.JIGSAW)
    arrays: dict[str, object] = {"fc6_w": np.zeros(3, np.float32)}
    for name, value in trunk.state_dict().items():
        layer, part, entry = name.split(".")
        if part == "0":
            arrays[f"{layer}_{entry[0]}"] = value.numpy()
        elif entry in NORM:
            arrays[f"{layer}norm_{NORM[entry]}"] = value.numpy()
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(arrays, protocol=2))
    found = pretrained(tmp_path / "model.pkl")
    other = build(found.trunk)
    assert isinstance(other, AlexNet)
    assert (other.variant, other.input.color) == (AlexNetVariant.JIGSAW, InputColor.BGR)
    assert build(found.load)(nn.ModuleDict({"trunk": other})).share == 1
    assert torch.equal(other.state_dict()["conv4.0.weight"], trunk.state_dict()["conv4.0.weight"])


class Runs:
    """Pickled as the call of a function."""

    def __init__(self, call: Callable[..., object], *args: object) -> None:
        self.call = call, args

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_malicious_pickle_is_refused_and_nothing_of_it_runs(protocol: int, tmp_path: Path) -> None:
    there = tmp_path / "was here"
    attacks = (Runs(os.mkdir, str(there)), Runs(eval, f"__import__('os').mkdir({str(there)!r})"), Runs(np.load, "x"))
    for attack in attacks:
        content = pickle.dumps({"conv1_w": np.zeros(3), "evil": attack}, protocol=protocol)
        (tmp_path / "model.pkl").write_bytes(content)
        with pytest.raises(ValueError, match=r"is no pickle of arrays: UnpicklingError: names .*, which is no array"):
            read_arrays(tmp_path / "model.pkl")
        assert not there.exists()
    pickle.loads(pickle.dumps(attacks[0]))
    assert there.exists(), "what an open unpickler does with it"


@pytest.mark.parametrize("content", [b"", b"junk", pickle.dumps([1]), pickle.dumps({"blobs": 3})])
def test_what_is_no_such_pickle(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=r"is no pickle of arrays|holds no arrays by name"):
        read_arrays(tmp_path / "model.pkl")


def test_numbers_and_texts_beside_the_arrays_are_let_be(tmp_path: Path) -> None:
    content = {"a": np.arange(3.0), "b": np.array(["x"]), "lr": 0.1, "c": np.float64(2)}
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(content))
    assert list(read_arrays(tmp_path / "model.pkl")) == ["a"]
