"""What no library has is told, with where it can go instead; detectron2's file by its own naming rules."""

from __future__ import annotations

import functools
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from weights.published import drawn
from weights.test_export import TRUNKS, VIT, home

from ssltyped import build
from ssltyped.config import ConfigError
from ssltyped.trunks.base import InputColor, InputConf
from ssltyped.trunks.resnet import Norm, ResNetConf, Stem
from ssltyped.types import Trunk
from ssltyped.weights import export as exporting
from ssltyped.weights.export import Target, export
from ssltyped.weights.networks import TIMM, TORCHVISION, LacksError
from ssltyped.weights.pretrained import pretrained

LACKING = [
    (Target.TORCHVISION, ResNetConf(depth=18, stem=Stem.SMALL), "its stem is that of small images"),
    (Target.TORCHVISION, ResNetConf(depth=18, norm=Norm.GROUP), "its norm is group, not batch"),
    (Target.TIMM, ResNetConf(depth=18, width_multiplier=0.5), "it is 0.5 times as wide"),
    (Target.TIMM, ResNetConf(depth=18, layer4_stride=1), "its last stage has stride 1"),
    (Target.TORCHVISION, ResNetConf(depth=18, input=InputConf(channels=1)), "it sees 1 channels, not 3"),
    (Target.TIMM, ResNetConf(depth=18, input=InputConf(color=InputColor.BGR)), "it sees BGR images"),
    (Target.TORCHVISION, VIT(qkv_bias=False), "its queries, keys and values have no bias"),
    (Target.TORCHVISION, VIT(use_class_token=False), "it has no class token"),
    (Target.HUGGING_FACE, VIT(use_class_token=False), "it has no class token"),
    (Target.HUGGING_FACE, ResNetConf(depth=50, groups=4, width_per_group=8), "its convolutions are grouped, or wider"),
    (Target.DETECTRON2, VIT(), "its backbones that such files are for are ResNets"),
    (Target.TORCHVISION, TRUNKS["swin of small last windows"](), "a stage has smaller windows than the others"),
    (Target.TORCHVISION, TRUNKS["xcit"](), "nothing there computes the same"),
    (Target.VISSL, VIT(layer_scale=0.5), "VISSL's VisionTransformer has no layer scale"),
]


@pytest.mark.parametrize(("to", "config", "why"), LACKING, ids=lambda value: str(getattr(value, "value", ""))[:12])
def test_a_trunk_that_a_library_lacks_is_refused(
    to: Target, config: Trunk, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TRUNKS, "it", lambda: config)
    home("it", tmp_path, monkeypatch)
    with pytest.raises(ConfigError) as error:
        export(tmp_path, to, tmp_path / "out")
    told = str(error.value)
    assert re.match(rf"to: {to.value} does not have this \w+: ", told)
    assert why in told
    assert "it can go to" in told
    assert "safetensors" in told
    assert list(tmp_path.iterdir()) == []


def test_every_lacking_thing_is_told_at_once() -> None:
    trunk = build(ResNetConf(depth=18, stem=Stem.SMALL, width_multiplier=0.25))
    for makes in (TORCHVISION, TIMM):
        with pytest.raises(LacksError, match=r"it is 0.25 times as wide; its stem is that of small images"):
            makes["ResNet"](trunk)


D2_NORM = {"weight": (), "bias": (), "running_mean": (), "running_var": ()}
D2_R50 = {2: (3, 64, 256), 3: (4, 128, 512), 4: (6, 256, 1024), 5: (3, 512, 2048)}
"""Stage: blocks, width of a bottleneck, width of the output; detectron2/modeling/backbone/resnet.py."""


def detectron2_names() -> dict[str, tuple[int, ...]]:
    """Names and shapes of detectron2's R-50 backbone, by the names of its modules: a convolution holds its norm."""
    found: dict[str, tuple[int, ...]] = {}

    def convolution(name: str, outputs: int, inputs: int, size: int) -> None:
        found[f"{name}.weight"] = (outputs, inputs, size, size)
        found.update({f"{name}.norm.{entry}": (outputs,) for entry in D2_NORM})

    convolution("stem.conv1", 64, 3, 7)
    before = 64
    for stage, (blocks, width, outputs) in D2_R50.items():
        for block in range(blocks):
            name = f"res{stage}.{block}"
            if block == 0:
                convolution(f"{name}.shortcut", outputs, before, 1)
            convolution(f"{name}.conv1", width, before, 1)
            convolution(f"{name}.conv2", width, width, 3)
            convolution(f"{name}.conv3", outputs, width, 1)
            before = outputs
    return found


def test_detectron2s_file_has_the_names_and_shapes_of_its_backbone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk = home("resnet50", tmp_path, monkeypatch)
    told = export(tmp_path, Target.DETECTRON2, tmp_path / "r50.pkl")
    found = pickle.loads((tmp_path / "r50.pkl").read_bytes())
    assert found["matching_heuristics"] is True
    assert found["__author__"] == "ssltyped"
    assert {name: array.shape for name, array in found["model"].items()} == detectron2_names()
    assert all(isinstance(array, np.ndarray) for array in found["model"].values())
    wanted = trunk.state_dict()["layer3.0.downsample.1.running_var"].numpy()
    assert np.array_equal(found["model"]["res4.0.shortcut.norm.running_var"], wanted)
    for setting in (
        "cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False",
        'cfg.INPUT.FORMAT = "RGB"',
        "cfg.MODEL.PIXEL_MEAN = [127.5",
    ):
        assert setting in told
    other = build(pretrained(tmp_path / "r50.pkl").trunk)
    report = build(pretrained(tmp_path / "r50.pkl").load)(nn.ModuleDict({"trunk": other}))
    assert report.share == 1, "and it is read again, by the unpickler that runs nothing"


def test_nothing_is_left_of_a_write_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home("vit", tmp_path, monkeypatch)
    (tmp_path / "out").write_text("before")

    def full(*args: object, **kwargs: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space left"):
        export(tmp_path, Target.TIMM, tmp_path / "out", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_text() == "before"


def test_a_folder_is_replaced_only_if_an_export_has_written_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home("vit", tmp_path, monkeypatch)
    again = functools.partial(export, tmp_path, Target.HUGGING_FACE, tmp_path / "out", overwrite=True)
    again()
    again()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match=r"out has thesis.tex, which no export has written: it is not replaced"):
        again()
    assert (tmp_path / "out" / "thesis.tex").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_package_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home("vit", tmp_path, monkeypatch)
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"onnx, onnxscript is not installed: pip install 'ssltyped\[export\]'"):
        export(tmp_path, Target.ONNX, tmp_path / "out")


def test_drawn_networks_differ() -> None:
    """What the comparisons of features stand on."""
    one, other = (drawn(build(VIT()), seed) for seed in (0, 1))
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    assert not any(torch.equal(a, b) for a, b in pairs)
