"""Trunks from VISSL's settings: one of every name, options by their own words, mistakes by their paths."""

import pytest
import torch

from ssltyped import config
from ssltyped.config import ConfigError
from ssltyped.interop.vissl.settings import Settings
from ssltyped.interop.vissl.trunks import TRUNKS, trunk
from ssltyped.interop.vissl.yaml import Tree
from ssltyped.trunks.alexnet import AlexNetConf, AlexNetVariant
from ssltyped.trunks.base import InputColor, InputConf
from ssltyped.trunks.beit import BEiTConf
from ssltyped.trunks.convit import ConViTConf
from ssltyped.trunks.convnext import ConvNeXtConf
from ssltyped.trunks.efficientnet import EfficientNetConf, EfficientNetVersion
from ssltyped.trunks.libraries import TimmTrunkConf
from ssltyped.trunks.mobilenet import MobileNetV3Conf
from ssltyped.trunks.regnet import AnyNetConf, NamedRegNetConf, RegNetConf, RegNetName, RegNetStem
from ssltyped.trunks.resnet import Norm, ResNetConf, ResNetSKConf
from ssltyped.trunks.swin import SwinTransformerConf
from ssltyped.trunks.vit import Masking, VisionTransformerConf
from ssltyped.trunks.xcit import XCiTConf
from ssltyped.types import Trunk

STAGES: Tree = {
    "name": "anynet",
    "depths": [1, 2],
    "widths": [16, 32],
    "group_widths": [8, 8],
    "bottleneck_multipliers": [1.0, 1.0],
    "strides": [2, 2],
    "stem_type": "res_stem_in",
    "stage_checkpoints": [[1], [2]],
}
ANYNET = AnyNetConf(
    depths=[1, 2],
    widths=[16, 32],
    group_widths=[8, 8],
    bottleneck_multipliers=[1.0, 1.0],
    strides=[2, 2],
    stem_type=RegNetStem.RES,
)

CASES: list[tuple[str, Tree, Trunk]] = [
    ("resnet", {"RESNETS": {"DEPTH": 18, "WIDTH_MULTIPLIER": 2}}, ResNetConf(depth=18, width_multiplier=2.0)),
    (
        "resnet",
        {"RESNETS": {"NORM": "GroupNorm", "GROUPNORM_GROUPS": 8, "ZERO_INIT_RESIDUAL": True, "LAYER4_STRIDE": 1}},
        ResNetConf(norm=Norm.GROUP, groupnorm_groups=8, zero_init_residual=True, layer4_stride=1),
    ),
    ("resnet", {"RESNETS": {"NORM": "LayerNorm", "GROUPNORM_GROUPS": 8}}, ResNetConf(norm=Norm.LAYER)),
    ("resnet", {"RESNETS": {"STANDARDIZE_CONVOLUTIONS": True}}, ResNetConf()),
    ("resnet_sk", {"RESNETS_SK": {"WIDTH_MULTIPLIER": 1}}, ResNetSKConf(width_multiplier=1.0)),
    ("alexnet_rotnet", {}, AlexNetConf(variant=AlexNetVariant.ROTNET)),
    (
        "efficientnet",
        {"EFFICIENT_NETS": {"model_version": "B2", "drop_connect_rate": 0.1, "min_width": None}},
        EfficientNetConf(version=EfficientNetVersion.B2, drop_connect_rate=0.1),
    ),
    ("regnet_fsdp", {"REGNET": {"name": "regnet_y_16gf"}}, NamedRegNetConf(name=RegNetName("regnet_y_16gf"))),
    (
        "regnet",
        {"REGNET": {"depth": 18, "w_0": 200, "w_a": 106.23, "w_m": 2.48, "group_width": 112, "use_se": False}},
        RegNetConf(depth=18, w_0=200, w_a=106.23, w_m=2.48, group_width=112, se_ratio=0.0),
    ),
    ("regnet_v2", {"REGNET": STAGES}, ANYNET),
    ("convnext", {"CONVNEXT": {"DEPTH": [1, 1], "DIMS": [8, 16]}}, ConvNeXtConf(depths=(1, 1), dims=(8, 16))),
    ("mobilenetv3_tv", {"MOBILE_NET": {"TIMM_BN": True}}, MobileNetV3Conf(bn_epsilon=1e-5, bn_momentum=0.1)),
    ("mobilenetv3_timm", {}, TimmTrunkConf(name="mobilenetv3_large_100")),
    (
        "vision_transformer",
        {
            "VISION_TRANSFORMERS": {
                "HIDDEN_DIM": 48,
                "NUM_HEADS": 3,
                "QK_SCALE": False,
                "USE_CLASS_TOKEN": False,
                "MASKED_IMAGE_MODELING": {"NAME": "ibot", "PARAMS": {}},
            }
        },
        VisionTransformerConf(hidden_dim=48, num_heads=3, use_class_token=False, masking=Masking.REPLACE),
    ),
    ("vision_transformer_fsdp", {"VISION_TRANSFORMERS": {"QK_SCALE": 0.5}}, VisionTransformerConf(qk_scale=0.5)),
    (
        "convit",
        {"CONVIT": {"N_GPSA_LAYERS": 3}, "VISION_TRANSFORMERS": {"NUM_LAYERS": 4, "QK_SCALE": False}},
        ConViTConf(n_gpsa_layers=3, num_layers=4),
    ),
    ("xcit", {"XCIT": {"PATCH_SIZE": 8, "ETA": 1e-5, "IMAGE_SIZE": 99}}, XCiTConf(patch_size=8, eta=1e-5)),
    ("xcit_fsdp", {}, XCiTConf()),
    ("swin_transformer", {"SWIN_TRANSFORMER": {"DEPTHS": [2, 2, 18, 2]}}, SwinTransformerConf(depths=(2, 2, 18, 2))),
    ("swin_transformer_official", {}, SwinTransformerConf()),
    ("beit", {"BEIT": {"INIT_VALUES": False, "USE_REL_POS_BIAS": True}}, BEiTConf(use_rel_pos_bias=True)),
]


def imported(name: str, sections: Tree, **model: bool | str | Tree) -> Trunk:
    return trunk(Settings({"TRUNK": {"NAME": name, **sections}, **model}, "MODEL", set()))


@pytest.mark.parametrize(("name", "sections", "wanted"), CASES, ids=[case[0] for case in CASES])
def test_a_trunk_has_the_options_that_the_settings_say(name: str, sections: Tree, wanted: Trunk) -> None:
    found = imported(name, sections)
    assert config.to_tree(found) == config.to_tree(config.check(wanted))


@pytest.mark.parametrize("name", sorted(TRUNKS))
def test_every_name_gives_a_trunk_that_can_be_built(name: str) -> None:
    needed: Tree = {"REGNET": {"name": "regnet_y_400mf"}}
    color = "lab" if name == "alexnet_colorization" else "rgb"
    with torch.device("meta"):
        assert config.build(imported(name, needed, INPUT_TYPE=color)).feature_dims


def test_colour_and_checkpointing_are_those_of_the_model() -> None:
    used: Tree = {"USE_ACTIVATION_CHECKPOINTING": True, "NUM_ACTIVATION_CHECKPOINTING_SPLITS": 4}
    found = imported("resnet", {}, INPUT_TYPE="bgr", ACTIVATION_CHECKPOINTING=used)
    assert config.to_tree(found) == config.to_tree(
        ResNetConf(input=InputConf(color=InputColor.BGR, checkpoint_splits=4))
    )
    for off in ({**used, "NUM_ACTIVATION_CHECKPOINTING_SPLITS": 1}, {**used, "USE_ACTIVATION_CHECKPOINTING": False}):
        assert config.get(imported("resnet", {}, ACTIVATION_CHECKPOINTING=off), "input.checkpoint_splits") == 0


@pytest.mark.parametrize(
    ("name", "sections", "message"),
    [
        ("resnet50", {}, "MODEL.TRUNK.NAME: got 'resnet50': there is no such trunk; did you mean 'resnet'?"),
        ("resnet", {"RESNETS": {"DEPTH": 49}}, "MODEL.TRUNK.RESNETS.depth: got 49"),
        ("resnet", {"RESNETS": {"NORM": "GroupNrm"}}, "did you mean 'GroupNorm'?"),
        ("regnet", {"REGNET": {"block_type": "vanilla_block"}}, "the only one is res_bottleneck_block"),
        ("regnet", {"REGNET": {"name": "regnet_y_17gf"}}, "MODEL.TRUNK.REGNET.name"),
        ("mobilenetv3_tv", {"MOBILE_NET": {"NAME": "mobilenetv3_small"}}, "the only one is mobilenetv3_large_100"),
        ("mobilenetv3_tv", {"MOBILE_NET": {"PRETRAINED": True}}, "weights are loaded beside the model"),
        ("mobilenetv3_timm", {"MOBILE_NET": {"TRUNK_ONLY": False}}, "only the trunk is here"),
    ],
)
def test_mistakes_are_named(name: str, sections: Tree, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        imported(name, sections)
    assert message in str(caught.value)
