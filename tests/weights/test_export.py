"""Trunks taken home: what is written is loaded by the library that it is for, and gives the same features."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from weights.published import drawn

from ssltyped import build
from ssltyped.config import ConfigError
from ssltyped.model.model import default_feature
from ssltyped.trunks.beit import BEiTConf
from ssltyped.trunks.convit import ConViTConf
from ssltyped.trunks.convnext import ConvNeXtConf
from ssltyped.trunks.efficientnet import EfficientNetConf
from ssltyped.trunks.libraries import TimmTrunkConf
from ssltyped.trunks.mobilenet import MobileNetSize, MobileNetV3Conf
from ssltyped.trunks.regnet import NamedRegNetConf, RegNetName
from ssltyped.trunks.resnet import ResNetConf
from ssltyped.trunks.swin import SwinTransformerConf
from ssltyped.trunks.vit import VisionTransformerConf
from ssltyped.trunks.xcit import XCiTConf
from ssltyped.types import Trunk
from ssltyped.weights import export as exporting
from ssltyped.weights.export import Taken, Target, export
from ssltyped.weights.load import LoadConf
from ssltyped.weights.pretrained import Pretrained, pretrained

SIZE = 64
VIT = functools.partial(
    VisionTransformerConf, image_size=SIZE, patch_size=16, num_layers=2, num_heads=2, hidden_dim=64, mlp_dim=128
)
TRUNKS: Mapping[str, Callable[[], Trunk]] = {
    "resnet18": lambda: ResNetConf(depth=18),
    "resnet50": lambda: ResNetConf(depth=50),
    "resnet of groups": lambda: ResNetConf(depth=50, groups=4, width_per_group=8),
    "narrow resnet": lambda: ResNetConf(depth=18, width_multiplier=0.125),
    "vit": VIT,
    "vit without bias": lambda: VIT(qkv_bias=False),
    "vit without class token": lambda: VIT(use_class_token=False),
    "vit with scaled branches": lambda: VIT(layer_scale=0.5),
    "convnext": lambda: ConvNeXtConf(depths=(1, 1, 2, 1), dims=(8, 8, 16, 16)),
    "swin": lambda: SwinTransformerConf(
        image_size=SIZE, embed_dim=16, depths=(2, 2), num_heads=(2, 4), window_size=4, drop_path_rate=0.0
    ),
    "swin of small last windows": lambda: SwinTransformerConf(
        image_size=SIZE, embed_dim=16, depths=(2, 1, 1, 2), num_heads=(2, 4, 4, 4), window_size=4
    ),
    "regnet": lambda: NamedRegNetConf(name=RegNetName.Y_400MF),
    "efficientnet": EfficientNetConf,
    "mobilenet": lambda: MobileNetV3Conf(size=MobileNetSize.SMALL),
    "beit": lambda: BEiTConf(
        image_size=SIZE,
        patch_size=16,
        num_layers=2,
        num_heads=2,
        hidden_dim=64,
        use_rel_pos_bias=True,
        use_abs_pos_emb=False,
        init_values=0.5,
    ),
    "xcit": lambda: XCiTConf(hidden_dim=32, num_layers=2, num_heads=2),
    "convit": lambda: ConViTConf(
        image_size=SIZE,
        patch_size=16,
        num_layers=3,
        n_gpsa_layers=2,
        num_heads=4,
        hidden_dim=64,
        mlp_dim=128,
        locality_dim=1,
    ),
    "timm's own": lambda: TimmTrunkConf(name="resnet10t"),
}
HAVE: Mapping[Target, tuple[str, ...]] = {
    Target.TORCHVISION: (
        "resnet18",
        "resnet50",
        "resnet of groups",
        "vit",
        "convnext",
        "swin",
        "regnet",
        "efficientnet",
        "mobilenet",
    ),
    Target.TIMM: (
        "resnet18",
        "resnet of groups",
        "vit",
        "vit without bias",
        "vit without class token",
        "vit with scaled branches",
        "convnext",
        "swin",
        "swin of small last windows",
        "regnet",
        "efficientnet",
        "beit",
        "xcit",
        "convit",
        "timm's own",
    ),
    Target.HUGGING_FACE: (
        "resnet18",
        "narrow resnet",
        "vit",
        "vit without bias",
        "vit with scaled branches",
        "convnext",
    ),
    Target.ONNX: ("narrow resnet", "vit", "convnext", "swin", "xcit", "convit"),
}


def home(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Trunk:
    """A trunk with drawn weights, as what `export` takes."""
    config = TRUNKS[name]()
    trunk = build(config)
    drawn(trunk)
    found = Pretrained(
        trunk=config,
        heads={},
        load=LoadConf(path=folder),
        origin="a run of ours",
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        image_size=SIZE,
    )
    taken = Taken(trunk, nn.ModuleDict(), found, {"method": "SimCLRLoss"})
    monkeypatch.setattr(exporting, "take", lambda path: taken)
    return trunk


def features_of(trunk: Trunk) -> tuple[Tensor, Tensor]:
    images = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        (features,) = trunk(images, [default_feature(trunk)])
    assert features.std() > 1e-3, "features that tell images apart"
    return images, features


SLOW = {
    (Target.TORCHVISION, "resnet50"),
    (Target.TIMM, "resnet of groups"),
    (Target.HUGGING_FACE, "resnet18"),
    *((Target.ONNX, name) for name in ("convnext", "swin", "xcit", "convit")),
}
CASES = [
    pytest.param(to, name, marks=[pytest.mark.slow] if (to, name) in SLOW else [])
    for to, names in HAVE.items()
    for name in names
]


@pytest.mark.parametrize(("to", "name"), CASES)
def test_the_code_that_is_told_gives_the_same_features(
    to: Target, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk = home(name, tmp_path, monkeypatch)
    images, wanted = features_of(trunk)
    out = tmp_path / "out"
    told = export(tmp_path, to, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"], "nothing half-written"
    made: dict[str, object] = {"images": images.numpy() if to is Target.ONNX else images}
    with torch.no_grad():
        exec(told.split("\n\n", 1)[1], made)
        if "features" not in made:
            network = made["network"]
            assert isinstance(network, nn.Module)
            made["features"] = network.eval()(images)
    got = made["features"]
    got = torch.from_numpy(got) if isinstance(got, np.ndarray) else got
    assert isinstance(got, Tensor)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))
    if to is not Target.ONNX and name != "timm's own":
        again = pretrained(out)
        report = build(again.load)(nn.ModuleDict({"trunk": build(again.trunk)}))
        assert report.share == 1, "and it comes back"


@pytest.mark.slow
def test_what_torchs_exporter_cannot_write_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home("beit", tmp_path, monkeypatch)
    with pytest.raises(ConfigError, match=r"to: torch's exporter cannot write this BEiT: "):
        export(tmp_path, Target.ONNX, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
