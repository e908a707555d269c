"""`MODEL.TRUNK` of VISSL to the config of one of our trunks."""

from collections.abc import Callable, Mapping
from functools import partial

from ssltyped.interop.vissl.settings import Settings, choice, lower_case, make
from ssltyped.trunks.alexnet import AlexNet, AlexNetVariant
from ssltyped.trunks.base import InputColor, InputConf
from ssltyped.trunks.beit import BEiT
from ssltyped.trunks.convit import Classifier, ConViT
from ssltyped.trunks.convnext import ConvNeXt
from ssltyped.trunks.efficientnet import EfficientNet
from ssltyped.trunks.libraries import TimmTrunk
from ssltyped.trunks.mobilenet import MobileNetV3
from ssltyped.trunks.regnet import Activation, AnyNet, NamedRegNet, RegNet, RegNetStem
from ssltyped.trunks.resnet import Norm, ResNet, ResNetSK
from ssltyped.trunks.swin import SwinTransformer
from ssltyped.trunks.vit import Masking, VisionTransformer
from ssltyped.trunks.xcit import XCiT
from ssltyped.types import Trunk

Common = Mapping[str, object]
"""The fields that all trunks have, from the settings of the model."""


def trunk(model: Settings) -> Trunk:
    """The trunk of a `MODEL` section. Raises `ConfigError`."""
    section = model.at("TRUNK")
    build = choice(section, "NAME", TRUNKS, None, "there is no such trunk")
    checkpointing = model.at("ACTIVATION_CHECKPOINTING")
    splits = checkpointing.get("NUM_ACTIVATION_CHECKPOINTING_SPLITS", int, 2)
    used = checkpointing.get("USE_ACTIVATION_CHECKPOINTING", bool, False)
    input = InputConf(
        color=choice(model, "INPUT_TYPE", {color.value: color for color in InputColor}, "rgb"),
        # With one split the last one is all, which is never computed twice.
        checkpoint_splits=splits if used and splits > 1 else 0,
    )
    return build(section, {"input": input})


def _resnet(trunk: Settings, common: Common) -> Trunk:
    section = trunk.at("RESNETS")
    norms = {"BatchNorm": Norm.BATCH, "LayerNorm": Norm.LAYER, "GroupNorm": Norm.GROUP}
    norm = choice(section, "NORM", norms, "BatchNorm")
    # VISSL has this option and never reads it: what it trained is a network of plain convolutions.
    section.skip("STANDARDIZE_CONVOLUTIONS")
    fields = lower_case(ResNet, section, {"NORM": "", "STANDARDIZE_CONVOLUTIONS": ""})
    if norm is not Norm.GROUP:
        fields.pop("groupnorm_groups", None)
    return make(ResNet, {**fields, "norm": norm, **common}, section.path)


def _plain(
    kind: type[Trunk], key: str, renames: Mapping[str, str], unused: tuple[str, ...], trunk: Settings, common: Common
) -> Trunk:
    """A trunk whose fields are those of its section; `unused` are keys that say nothing about the network."""
    section = trunk.at(key)
    section.skip(*unused)
    fields = {**lower_case(kind, section, renames), **common}
    for name in ("qk_scale", "init_values"):
        if fields.get(name) is False:
            del fields[name]
    return make(kind, fields, section.path)


def _alexnet(variant: AlexNetVariant, trunk: Settings, common: Common) -> Trunk:
    return make(AlexNet, {"variant": variant, **common}, trunk.path)


def _regnet(trunk: Settings, common: Common) -> Trunk:
    section = trunk.at("REGNET")
    name = section.get("name", str, "")
    # How the blocks of a stage are grouped for memory changes no number; ours are cut by checkpoint_splits.
    section.skip("stage_checkpoints", "stage_checkpointing")
    if name not in ("", "anynet"):
        return make(NamedRegNet, {"name": name, **common}, section.path)
    if section.get("block_type", str, "res_bottleneck_block") != "res_bottleneck_block":
        raise section.wrong("block_type", "the only one is res_bottleneck_block")
    kind: type[Trunk] = AnyNet if name else RegNet
    fields = lower_case(kind, section, {"stem_type": "", "activation": ""})
    fields["stem_type"] = choice(section, "stem_type", {stem.value: stem for stem in RegNetStem}, "simple_stem_in")
    fields["activation"] = choice(section, "activation", {a.value: a for a in Activation}, "relu")
    if not section.get("use_se", bool, True):
        fields["se_ratio"] = 0.0
    return make(kind, {**fields, **common}, section.path)


def _mobilenet(timm: bool, trunk: Settings, common: Common) -> Trunk:
    """The network of torchvision or of timm."""
    section = trunk.at("MOBILE_NET")
    if section.get("NAME", str, "mobilenetv3_large_100") != "mobilenetv3_large_100":
        raise section.wrong("NAME", "the only one is mobilenetv3_large_100")
    if section.get("PRETRAINED", bool, False):
        raise section.wrong("PRETRAINED", "weights are loaded beside the model, not by it")
    timm_bn = section.get("TIMM_BN", bool, False)
    if not timm:
        bn = {"bn_epsilon": 1e-5, "bn_momentum": 0.1} if timm_bn else {}
        return make(MobileNetV3, {**bn, **common}, section.path)
    if not section.get("TRUNK_ONLY", bool, True):
        raise section.wrong("TRUNK_ONLY", "only the trunk is here, without its last convolution")
    return make(TimmTrunk, {"name": "mobilenetv3_large_100", **common}, section.path)


def _vit(trunk: Settings, common: Common) -> Trunk:
    masking = trunk.at("VISION_TRANSFORMERS", "MASKED_IMAGE_MODELING")
    names = {"": Masking.NONE, "none": Masking.NONE, "ibot": Masking.REPLACE, "msn": Masking.DROP}
    own = {"masking": choice(masking, "NAME", names, "")}
    masking.skip("PARAMS")
    return _plain(VisionTransformer, "VISION_TRANSFORMERS", {}, ("CLASSIFIER", *_UNUSED_VIT), trunk, {**common, **own})


def _convit(trunk: Settings, common: Common) -> Trunk:
    section = trunk.at("VISION_TRANSFORMERS")
    section.skip("MASKED_IMAGE_MODELING", *_UNUSED_VIT)
    fields = {**common, **lower_case(ConViT, trunk.at("CONVIT"), {}), **lower_case(ConViT, section, {})}
    if fields.get("qk_scale") is False:
        del fields["qk_scale"]
    classifiers = {"token": Classifier.TOKEN, "gap": Classifier.GAP}
    return make(ConViT, {**fields, "classifier": choice(section, "CLASSIFIER", classifiers, "token")}, section.path)


_UNUSED_VIT = ("name", "CHECKPOINT_MLP", "CHECKPOINT_BLOCK")
_UNUSED_XCIT = ("name", "IMAGE_SIZE", "CHECKPOINT_XCA_BLOCK", "CHECKPOINT_ATTN_BLOCK")

TRUNKS: Mapping[str, Callable[[Settings, Common], Trunk]] = {
    "resnet": _resnet,
    "resnet_sk": partial(_plain, ResNetSK, "RESNETS_SK", {}, ()),
    **{f"alexnet_{variant.value}": partial(_alexnet, variant) for variant in AlexNetVariant},
    "efficientnet": partial(_plain, EfficientNet, "EFFICIENT_NETS", {"model_version": "version"}, ()),
    "regnet": _regnet,
    "regnet_v2": _regnet,
    "regnet_fsdp": _regnet,
    "convnext": partial(_plain, ConvNeXt, "CONVNEXT", {"DEPTH": "depths"}, ()),
    "mobilenetv3_tv": partial(_mobilenet, False),
    "mobilenetv3_timm": partial(_mobilenet, True),
    "vision_transformer": _vit,
    "vision_transformer_fsdp": _vit,
    "convit": _convit,
    "xcit": partial(_plain, XCiT, "XCIT", {}, _UNUSED_XCIT),
    # Its many blocks of class attention are a slip: there are 2 in the paper and in VISSL's own xcit.
    "xcit_fsdp": partial(_plain, XCiT, "XCIT", {}, _UNUSED_XCIT),
    "swin_transformer": partial(_plain, SwinTransformer, "SWIN_TRANSFORMER", {}, ("name",)),
    "swin_transformer_official": partial(_plain, SwinTransformer, "SWIN_TRANSFORMER", {}, ("name",)),
    "beit": partial(_plain, BEiT, "BEIT", {}, ()),
}
"""VISSL's names. classy_vit, the network of another library, is not here."""
