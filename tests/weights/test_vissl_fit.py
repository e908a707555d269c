"""Models of VISSL's own recipes, trunk and every head: each tensor of a file goes where its layout says."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ssltyped.config import ConfigError
from ssltyped.heads.mlp import MLPHead
from ssltyped.heads.plumbing import HeadSequence, PoolHead
from ssltyped.heads.prototypes import PrototypesHead
from ssltyped.interop.vissl.recipe import build_model, import_config
from ssltyped.model.model import SSLModel
from ssltyped.trunks.resnet import ResNet
from ssltyped.types import Head
from ssltyped.weights.load import Load
from ssltyped.weights.recognise import recognise
from ssltyped.weights.stored import VISSL, Stored
from ssltyped.weights.vissl import Leaf, model_layout
from ssltyped.weights.vissl_fit import heads_found

CONFIGS = Path(__file__).parents[1] / "golden" / "vissl_configs"
RECIPES = (
    "pretrain/simclr/simclr_8node_resnet",
    "pretrain/swav/swav_8node_resnet",
    "pretrain/moco/moco_1node_resnet",
    "pretrain/jigsaw/jigsaw_8gpu_resnet",
    "pretrain/pirl/pirl_jigsaw_4node_resnet50",
    "pretrain/barlow_twins/barlow_twins_4node_resnet",
    "pretrain/dino/dino_16gpus_deits16",
    "pretrain/vision_transformer/supervised/16gpu_deit_b_example",
    "benchmark/linear_image_classification/imagenet1k/eval_resnet_8gpu_transfer_in1k_linear",
)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_tensor_of_trunk_and_heads_has_its_place(recipe: str) -> None:
    """Without numbers: which of theirs became which of ours is told by the tensors themselves."""
    imported = import_config(CONFIGS, [f"config={recipe}"])
    with torch.device("meta"):
        model = build_model(imported, {head.input: 1 for head in imported.wired.heads.values() if head.input})
        layout = model_layout(model, imported.wired.leaves, imported.trunk_prefix)
        theirs = {name: torch.empty_like(value) for name, value in layout.export(model).items()}
    stored = Stored(theirs, VISSL)
    load = Load(path=Path("model_final.torch"), into="")
    report = load.load(model, stored)
    assert report.fits
    assert report.share == 1
    assert len(report.matched) == len(model.state_dict())
    fit = load._fit(model, model, stored)
    for name, value in fit.entries.items():
        wanted = theirs[layout.name(name)]
        assert value is wanted or value._base is wanted, name
    found = recognise(stored)
    assert found is not None
    assert found.complete


def one_head(bias: float) -> Head:
    head = MLPHead(in_dim=8, dims=[8])
    nn.init.constant_(head.get_parameter("layers.0.bias"), bias)
    return head


def model() -> SSLModel:
    """Two heads in a row behind pooling, which has no weights, beside one with prototypes."""
    row = HeadSequence(heads=[PoolHead(size=1, in_dim=8), one_head(1), one_head(2)], in_dim=8)
    prototypes = PrototypesHead(in_dim=64, dims=[8], num_prototypes=[5], use_bn=False)
    trunk = ResNet(depth=18, width_multiplier=0.125)
    row.feature = "res2"
    return SSLModel(trunk=trunk, heads={"row": row, "prototypes": prototypes})


LEAVES = [
    Leaf("heads.row.heads.1", "heads.0.0", "mlp"),
    Leaf("heads.row.heads.2", "heads.0.1", "mlp"),
    Leaf("heads.prototypes", "heads.1", "swav_head"),
]


def file_of(made: SSLModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model_layout(made, LEAVES).export(made).items()}


def test_equal_heads_keep_their_order_and_nested_ones_are_found() -> None:
    theirs, other = file_of(model()), model()
    for value in other.state_dict().values():
        value.zero_()
    assert Load(path=Path("x"), into="").load(other, Stored(theirs, VISSL)).share == 1
    assert other.get_parameter("heads.row.heads.1.layers.0.bias").eq(1).all()
    assert other.get_parameter("heads.row.heads.2.layers.0.bias").eq(2).all()


def test_one_head_of_several() -> None:
    theirs, other = file_of(model()), model()
    report = Load(path=Path("x"), into="heads.prototypes").load(other, Stored(theirs, VISSL))
    assert report.share == 1
    assert len(report.matched) == 3
    assert torch.equal(
        other.get_parameter("heads.prototypes.prototypes.0.weight"), theirs["heads.1.prototypes0.weight"]
    )


def test_a_head_too_many_or_too_few_is_told() -> None:
    theirs = file_of(model())
    more = {**theirs, "heads.2.clf.0.bias": torch.zeros(3)}
    with pytest.raises(ConfigError, match=r"without a place: 2\.clf\.0\.bias"):
        Load(path=Path("x"), into="").load(model(), Stored(more, VISSL))
    fewer = {name: value for name, value in theirs.items() if not name.startswith("heads.1.")}
    with pytest.raises(ConfigError, match=r"missing: heads\.prototypes\.layers\.0\.weight"):
        Load(path=Path("x"), into="").load(model(), Stored(fewer, VISSL))
    wrong = {name: value[:3] if name.startswith("heads.1.") else value for name, value in theirs.items()}
    with pytest.raises(ConfigError, match=r"shapes: heads\.prototypes\.layers\.0\.weight \(3, 64\) for \(8, 64\)"):
        Load(path=Path("x"), into="").load(model(), Stored(wrong, VISSL))


def test_nothing_is_found_where_nothing_is() -> None:
    found = heads_found(model(), {"0.something.weight": torch.zeros(1)})
    assert not found.entries
    assert found.rest == ("0.something.weight",)
