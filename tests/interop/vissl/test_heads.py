"""Heads from VISSL's entries: their defaults are not ours; options without effect go; unknown ones are errors."""

from typing import Optional

import pytest

from ssltyped import config
from ssltyped.config import ConfigError
from ssltyped.heads.classifier import MobileNetV3HeadConf, ViTHeadConf
from ssltyped.heads.ibot import IBOTDistillationHeadConf, IBOTHeadConf, TokenNorm
from ssltyped.heads.mlp import EvalMLPHeadConf, MLPHeadConf
from ssltyped.heads.plumbing import IdentityHeadConf, SiameseConcatHeadConf
from ssltyped.heads.prototypes import Activation, DINOHeadConf, MSNHeadConf, PrototypesHeadConf, Scale
from ssltyped.interop.vissl.heads import head
from ssltyped.interop.vissl.settings import Settings
from ssltyped.interop.vissl.yaml import Tree, Value
from ssltyped.types import Head

CASES: list[tuple[str, Tree, Head]] = [
    ("mlp", {"dims": [8, 4]}, MLPHeadConf(in_dim=8, dims=[4], use_relu=False)),
    (
        "mlp_fsdp",
        {"dims": [8, 6, 4], "use_relu": True, "use_bn": True, "use_dropout": True, "use_bias": False},
        MLPHeadConf(in_dim=8, dims=[6, 4], use_bn=True, use_bias=False, dropout=0.5),
    ),
    # Norm and dropout of a single layer that stays bare are there in name only.
    ("mlp", {"dims": [8, 4], "use_bn": True, "use_dropout": True}, MLPHeadConf(in_dim=8, dims=[4], use_relu=False)),
    (
        "mlp",
        {"dims": [8, 4], "use_bn": True, "skip_last_layer_relu_bn": False},
        MLPHeadConf(in_dim=8, dims=[4], use_bn=True, use_relu=False, last_layer_bare=False),
    ),
    ("mlp_res", {"dims": [8, 8]}, MLPHeadConf(in_dim=8, dims=[8], use_relu=False, residual=True)),
    (
        "eval_mlp",
        {"in_channels": 2, "dims": [8, 6, 3], "use_bn": True, "use_relu": True},
        EvalMLPHeadConf(in_dim=8, in_channels=2, dims=[6, 3], use_bn=True, use_relu=True),
    ),
    ("eval_mlp_pooled", {"in_channels": 8, "dims": [8, 3]}, EvalMLPHeadConf(in_dim=8, in_channels=8, dims=[3])),
    (
        "swav_head",
        {"dims": [8, 6, 4], "use_bn": False, "num_clusters": [5, 7], "activation_name": "GELU", "skip_last_bn": False},
        PrototypesHeadConf(
            in_dim=8,
            dims=[6, 4],
            num_prototypes=[5, 7],
            use_bn=False,
            activation=Activation.GELU,
            last_layer_bare=False,
        ),
    ),
    (
        "swav_head_fsdp",
        {"dims": [8, 4], "use_bn": True, "num_clusters": [5], "use_weight_norm_prototypes": True},
        PrototypesHeadConf(in_dim=8, dims=[4], num_prototypes=[5], scale=Scale.LEARNED),
    ),
    ("dino_head", {"in_dim": 8, "num_clusters": [16]}, DINOHeadConf(in_dim=8, num_prototypes=16)),
    (
        "dino_head_fsdp",
        {"in_dim": 8, "num_clusters": [16], "normalize_last_layer": False, "num_layers": 2, "use_bn": True},
        DINOHeadConf(in_dim=8, num_prototypes=16, scale=Scale.LEARNED, num_layers=2, use_bn=True),
    ),
    (
        "ibot_head",
        {"in_dim": 8, "out_dim": 16, "patch_out_dim": 10, "norm": "ln", "act": "relu"},
        IBOTHeadConf(
            in_dim=8, num_prototypes=16, num_patch_prototypes=10, norm=TokenNorm.LAYER, activation=Activation.RELU
        ),
    ),
    (
        "ibot_head",
        {"in_dim": 8, "out_dim": 16, "patch_out_dim": 10, "shared_head": True, "last_norm": "bn"},
        IBOTHeadConf(in_dim=8, num_prototypes=16, shared=True, last_norm=TokenNorm.BATCH),
    ),
    (
        "ibot_distillation_head",
        {"in_dim": 8, "out_dim": 16},
        IBOTDistillationHeadConf(in_dim=8, num_prototypes=16),
    ),
    (
        "msn_head",
        {"in_dim": 8, "num_prototypes": 9, "freeze_prototypes": True, "output_dim": 4, "return_query": True},
        MSNHeadConf(in_dim=8, num_prototypes=9, embedding_dim=4, return_embedding=True),
    ),
    ("siamese_concat_view", {"num_towers": 3}, SiameseConcatHeadConf(num_towers=3, in_dim=32)),
    (
        "vision_transformer_head",
        {"in_plane": 8, "num_classes": 3, "hidden_dim": 5},
        ViTHeadConf(in_dim=8, num_classes=3, hidden_dim=5),
    ),
    (
        "mobilenet_v3_head",
        {"num_classes": 3, "with_bn": True},
        MobileNetV3HeadConf(in_dim=960, num_classes=3, use_bn=True),
    ),
    ("identity", {}, IdentityHeadConf(in_dim=32)),
]


def imported(entry: Value, section: Tree) -> Head:
    return head(entry, 32, Settings(section, "HEAD", set()), "HEAD.PARAMS.0")[1].head


@pytest.mark.parametrize(("name", "values", "wanted"), CASES, ids=[case[0] for case in CASES])
def test_a_head_has_the_options_that_the_settings_say(name: str, values: Tree, wanted: Head) -> None:
    found = imported([name, values], {})
    assert config.to_tree(found) == config.to_tree(config.check(wanted))
    assert config.build(found).in_dim == config.get(wanted, "in_dim")


def test_the_width_of_what_a_head_gives_is_what_the_next_one_reads() -> None:
    section = Settings({}, "HEAD", set())
    cases: list[tuple[list[Value], Optional[int]]] = [
        (["mlp", {"dims": [8, 6, 4]}], 4),
        (["siamese_concat_view", {"num_towers": 3}], 96),
        (["identity"], 32),
        (["swav_head", {"dims": [8, 4], "use_bn": True, "num_clusters": [5]}], None),
    ]
    for entry, width in cases:
        assert head(entry, 32, section, "x")[1].width == width


def test_norms_and_starting_weights_are_those_of_the_section() -> None:
    section: Tree = {"BATCHNORM_EPS": 1e-3, "BATCHNORM_MOMENTUM": 0.5, "PARAMS_MULTIPLIER": 2.0}
    found = imported(["mlp", {"dims": [8, 6, 4], "use_bn": True}], section)
    assert [config.get(found, name) for name in ("bn_eps", "bn_momentum", "init_scale")] == [1e-3, 0.5, 2.0]
    assert config.get(imported(["mlp", {"dims": [8, 4], "use_bn": True}], section), "bn_eps") == 1e-5


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (["mpl", {}], "there is no head 'mpl'; did you mean 'mlp'?"),
        ("mlp", "want [NAME, {...}]"),
        (["mlp", [1]], "want the settings of mlp"),
        (["mlp", {"dims": [8, 4], "use_rleu": True}], "mlp has no such setting; did you mean 'use_relu'?"),
        (["mlp", {"dims": [8]}], "at least one layer"),
        (["mlp", {}], "HEAD.PARAMS.0.dims: is missing"),
        (["mlp", {"dims": [8, 0]}], "HEAD.PARAMS.0.dims.0: got 0"),
        (["eval_mlp_pooled", {"in_channels": 4, "dims": [8, 3]}], "each vector is 8 wide"),
        (
            ["swav_head", {"dims": [8, 4], "use_bn": True, "num_clusters": [5], "normalize_last_layer": True}],
            "needs use",
        ),
        (["dino_head", {"in_dim": 8, "num_clusters": [5, 6]}], "want one number"),
    ],
)
def test_mistakes_are_named(entry: Value, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        imported(entry, {})
    assert message in str(caught.value)
