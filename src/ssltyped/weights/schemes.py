"""How libraries name the tensors of networks that we have as trunks: a table of which a new format is one entry."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Sequence
from enum import Enum

from torch import nn

from ssltyped.weights.layout import Layout, Rename
from ssltyped.weights.vissl_trunks import (
    ALEXNET,
    BEIT,
    CONVIT,
    CONVNEXT,
    LAYOUTS,
    MOBILENET,
    REGNET,
    RESNET,
    RESNET_SK,
    TOKENS,
    XCIT,
)


class Library(Enum):
    """Whose names they are."""

    TORCHVISION = "torchvision"
    TIMM = "timm"
    HUGGING_FACE = "Hugging Face"
    VISSL = "VISSL"
    CLASSY_VISION = "ClassyVision"
    CAFFE2 = "Caffe2"
    DETECTRON2 = "detectron2"
    LIGHTLY = "lightly"
    AUTHORS = "its authors"
    SSLTYPED = "ssltyped"


OTHERS = (
    r"^(fc|heads?|head_dist|classifier|pooler|pre_logits|projection_head|prototypes\d*|projector|predictor|mlp_head"
    r"|projection_mlp|prediction_mlp|decoder\w*|mask_token|masked_embed|patch_masking|queue|queue_ptr|linear)(\.|$)"
)
"""Entries of theirs that stand beside a trunk: classifiers, heads, decoders; the token of patches that are masked."""


@dataclasses.dataclass(frozen=True)
class Scheme:
    """The names of a library for a family of our trunks.

    Args:
        library: whose.
        family: the class of our trunk, that of the most general one where there are several.
        anchor: one of their names, by which a file is recognised and what stands before them in it is found.
        layout: their names; a function of the trunk where they depend on its fields.
        others: a regular expression for entries of theirs that are no part of a trunk.
        needs: a regular expression that one of the names in the file matches too.
    """

    library: Library
    family: str
    anchor: str
    layout: Layout | Callable[[nn.Module], Layout]
    others: str = OTHERS
    needs: str = ""

    def layout_of(self, trunk: nn.Module) -> Layout:
        """Their names for the entries of this trunk."""
        return self.layout if isinstance(self.layout, Layout) else self.layout(trunk)


def _up(by: int, text: str) -> Callable[[re.Match[str]], str]:
    """A replacement in which {0}, {1} ... are the groups, and the first is a number that is so much more there."""
    return lambda match: text.format(int(match[1]) + by, *match.groups()[1:])


_SEQUENTIAL = Layout(renames=[(r"^conv1\.", "0."), (r"^bn1\.", "1."), (r"^layer(\d)\.", _up(3, "{0}."))])
"""A ResNet of torchvision without its classifier, as a row of modules without names."""

_DETECTRON2 = Layout(
    renames=[
        (r"^conv1\.", "stem.conv1."),
        (r"^bn1\.", "stem.conv1.norm."),
        (r"^layer(\d)\.", _up(1, "res{0}.")),
        (r"\.downsample\.0\.", ".shortcut."),
        (r"\.downsample\.1\.", ".shortcut.norm."),
        (r"\.bn(\d)\.", r".conv\1.norm."),
    ],
    dropped=r"num_batches_tracked$",
)

_HF_RESNET = Layout(
    renames=[
        (r"^conv1\.", "embedder.embedder.convolution."),
        (r"^bn1\.", "embedder.embedder.normalization."),
        (r"^layer(\d)\.(\d+)\.", _up(-1, "encoder.stages.{0}.layers.{1}.")),
        (r"\.downsample\.0\.", ".shortcut.convolution."),
        (r"\.downsample\.1\.", ".shortcut.normalization."),
        (r"\.conv(\d)\.", _up(-1, ".layer.{0}.convolution.")),
        (r"\.bn(\d)\.", _up(-1, ".layer.{0}.normalization.")),
    ]
)

_CLASSY_BLOCKS: list[Rename] = [
    (r"^conv1\.", "initial_block._module.0."),
    (r"^bn1\.", "initial_block._module.1."),
    (r"^layer(\d)\.(\d+)\.", _up(-1, "blocks.{0}.block{0}-{1}.")),
    (r"\.conv1\.", ".convolutional_block.0."),
    (r"\.bn1\.", ".convolutional_block.1."),
    (r"\.conv2\.", ".convolutional_block.3."),
]
_CLASSY_BASIC = Layout(renames=[*_CLASSY_BLOCKS, (r"\.bn2\.", ".bn.")])
_CLASSY_BOTTLENECK = Layout(
    renames=[
        *_CLASSY_BLOCKS,
        (r"\.bn2\.", ".convolutional_block.4."),
        (r"\.conv3\.", ".convolutional_block.6."),
        (r"\.bn3\.", ".bn."),
    ]
)

_CAFFE2_NORM = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}


def _branch(match: re.Match[str]) -> str:
    """res2_0_branch2a_w, res2_0_branch2a_bn_s."""
    stage, block, kind, number, entry = match.groups()
    start = f"res{int(stage) + 1}_{block}_branch2{'abc'[int(number) - 1]}"
    return f"{start}_w" if kind == "conv" else f"{start}_bn_{_CAFFE2_NORM.get(entry, entry)}"


def _branch1(match: re.Match[str]) -> str:
    stage, block, number, entry = match.groups()
    start = f"res{int(stage) + 1}_{block}_branch1"
    return f"{start}_w" if number == "0" else f"{start}_bn_{_CAFFE2_NORM.get(entry, entry)}"


_CAFFE2_RESNET = Layout(
    renames=[
        (r"^conv1\.weight$", "conv1_w"),
        (r"^bn1\.(\w+)$", lambda match: f"res_conv1_bn_{_CAFFE2_NORM.get(match[1], match[1])}"),
        (r"^layer(\d)\.(\d+)\.(conv|bn)(\d)\.(\w+)$", _branch),
        (r"^layer(\d)\.(\d+)\.downsample\.(\d)\.(\w+)$", _branch1),
    ],
    dropped=r"num_batches_tracked$",
)
_CAFFE2_ALEXNET = Layout(
    renames=[
        (r"^(conv\d)\.0\.weight$", r"\1_w"),
        (r"^(conv\d)\.0\.bias$", r"\1_b"),
        (r"^(conv\d)\.1\.(\w+)$", lambda match: f"{match[1]}norm_{_CAFFE2_NORM.get(match[2], match[2])}"),
    ],
    dropped=r"num_batches_tracked$",
)
_CAFFE2_OTHERS = r"(_momentum|^lr|^model_iter|^(pred|fc|data)\w*)$|^fc|^pred"

_DEEPCLUSTER_PLACES = {1: 0, 2: 4, 3: 8, 4: 11, 5: 14}
_DEEPCLUSTER = Layout(
    renames=[
        (r"^conv(\d)\.(\d)\.", lambda m: f"features.{_DEEPCLUSTER_PLACES[int(m[1])] + int(m[2])}."),
        (r"^sobel\.", "sobel."),
    ]
)

_TIMM_VIT = Layout(renames=[(r"\.gamma_([12])$", r".ls\1.gamma")], dropped=r"^mask_token$")
_IBOT_VIT = Layout(renames=[(r"^mask_token$", "masked_embed")], shapes=[(r"^mask_token$", (1, -1))])

_TORCHVISION_VIT = Layout(
    renames=[
        (r"^cls_token$", "class_token"),
        (r"^pos_embed$", "encoder.pos_embedding"),
        (r"^patch_embed\.proj\.", "conv_proj."),
        (r"^norm\.", "encoder.ln."),
        (r"^blocks\.(\d+)\.", r"encoder.layers.encoder_layer_\1."),
        (r"\.norm([12])\.", r".ln_\1."),
        (r"\.attn\.qkv\.", ".self_attention.in_proj_"),
        (r"\.attn\.proj\.", ".self_attention.out_proj."),
        (r"\.mlp\.fc1\.", ".mlp.0."),
        (r"\.mlp\.fc2\.", ".mlp.3."),
    ],
    dropped=r"^mask_token$",
)

_HF_EMBEDDINGS: list[Rename] = [
    (r"^(cls_token|mask_token)$", r"embeddings.\1"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
    (r"^blocks\.(\d+)\.attn\.qkv\.", r"encoder.layer.\1.attention.attention.{query,key,value}."),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"encoder.layer.\1.attention.output.dense."),
]
_HF_VIT = Layout(
    renames=[
        *_HF_EMBEDDINGS,
        (r"^blocks\.(\d+)\.norm1\.", r"encoder.layer.\1.layernorm_before."),
        (r"^blocks\.(\d+)\.norm2\.", r"encoder.layer.\1.layernorm_after."),
        (r"^blocks\.(\d+)\.mlp\.fc1\.", r"encoder.layer.\1.intermediate.dense."),
        (r"^blocks\.(\d+)\.mlp\.fc2\.", r"encoder.layer.\1.output.dense."),
    ],
    dropped=r"^mask_token$",
)
_HF_DINOV2 = Layout(
    renames=[
        *_HF_EMBEDDINGS,
        (r"^blocks\.(\d+)\.gamma_([12])$", r"encoder.layer.\1.layer_scale\2.lambda1"),
        (r"^blocks\.", "encoder.layer."),
    ],
    shapes=[(r"^mask_token$", (1, -1))],
)

_TORCHVISION_CONVNEXT = Layout(
    renames=[
        (r"^downsample_layers\.0\.", "features.0."),
        (r"^downsample_layers\.(\d+)\.", lambda match: f"features.{2 * int(match[1])}."),
        (r"^blocks\.(\d+)\.", lambda match: f"features.{2 * int(match[1]) + 1}."),
        (r"\.gamma$", ".layer_scale"),
        (r"\.dwconv\.", ".block.0."),
        (r"^(features\.\d+\.\d+)\.norm\.", r"\1.block.2."),
        (r"\.fc1\.", ".block.3."),
        (r"\.fc2\.", ".block.5."),
        (r"^norm\.", "classifier.0."),
    ],
    shapes=[(r"\.gamma$", (-1, 1, 1))],
)
_TIMM_CONVNEXT = Layout(
    renames=[
        (r"^downsample_layers\.0\.", "stem."),
        (r"^downsample_layers\.(\d+)\.", r"stages.\1.downsample."),
        (r"^blocks\.(\d+)\.", r"stages.\1.blocks."),
        (r"\.dwconv\.", ".conv_dw."),
        (r"\.fc([12])\.", r".mlp.fc\1."),
        (r"^norm\.", "head.norm."),
    ]
)
_HF_CONVNEXT = Layout(
    renames=[
        (r"^downsample_layers\.0\.0\.", "embeddings.patch_embeddings."),
        (r"^downsample_layers\.0\.1\.", "embeddings.layernorm."),
        (r"^downsample_layers\.(\d+)\.", r"encoder.stages.\1.downsampling_layer."),
        (r"^blocks\.(\d+)\.", r"encoder.stages.\1.layers."),
        (r"\.gamma$", ".layer_scale_parameter"),
        (r"\.fc([12])\.", r".pwconv\1."),
        (r"^(encoder\..*)\.norm\.", r"\1.layernorm."),
        (r"^norm\.", "layernorm."),
    ]
)

_INDEX = r"\.relative_position_index$"
"""Computed, and not saved by all."""

_TIMM_BEIT = Layout(renames=BEIT.renames, dropped=rf"^mask_token$|{_INDEX}")
_SWIN = Layout(dropped=_INDEX)
_TIMM_SWIN = Layout(renames=[(r"^layers\.(\d+)\.downsample\.", _up(1, "layers.{0}.downsample."))], dropped=_INDEX)
_TORCHVISION_SWIN = Layout(
    renames=[
        (r"^patch_embed\.proj\.", "features.0.0."),
        (r"^patch_embed\.norm\.", "features.0.2."),
        (r"^layers\.(\d+)\.blocks\.", lambda match: f"features.{2 * int(match[1]) + 1}."),
        (r"^layers\.(\d+)\.downsample\.", lambda match: f"features.{2 * int(match[1]) + 2}."),
        (r"\.mlp\.fc1\.", ".mlp.0."),
        (r"\.mlp\.fc2\.", ".mlp.3."),
    ],
    shapes=[(_INDEX, (-1,))],
)

_TIMM_XCIT = Layout(
    renames=[(r"^cls_blocks\.", "cls_attn_blocks."), (r"^(cls_attn_blocks\.\d+\.attn)\.qkv\.", r"\1.{q,k,v}.")]
)

_TIMM_CONVIT = Layout(renames=[(r"\.alpha$", ".gating_param")], shapes=[(r"\.alpha$", (-1,))])

_REGNET_BLOCK = r"^res\.res(\d)\.block\d+-(\d+)\."
_TORCHVISION_REGNET = Layout(
    renames=[
        (r"^conv1\.", "stem."),
        (r"^res\.res(\d)\.", _up(-1, "trunk_output.block{0}.")),
    ]
)
_REGNET_LAYERS: list[Rename] = [
    (r"\.f\.(a|b|c)\.0\.", lambda match: f".conv{'abc'.index(match[1]) + 1}.conv."),
    (r"\.f\.(a|b|c)\.1\.", lambda match: f".conv{'abc'.index(match[1]) + 1}.bn."),
]
_TIMM_REGNET = Layout(
    renames=[
        (r"^conv1\.0\.", "stem.conv."),
        (r"^conv1\.1\.", "stem.bn."),
        (_REGNET_BLOCK, lambda match: f"s{int(match[1]) - 1}.b{int(match[2]) + 1}."),
        *_REGNET_LAYERS,
        (r"\.f\.se\.", ".se."),
        (r"\.proj\.0\.", ".downsample.conv."),
        (r"\.proj\.1\.", ".downsample.bn."),
    ]
)


def _stages(trunk: nn.Module) -> list[tuple[int, int]]:
    """Stage, from 0, of each block of an EfficientNet, and its place there: every stage has a width of its own."""
    widths: Sequence[int] = getattr(trunk, "widths")  # noqa: B009  # of a class that needs torchvision
    stages = enumerate(itertools.groupby(widths))
    return [(stage, place) for stage, (_, blocks) in stages for place, _ in enumerate(blocks)]


def _torchvision_efficientnet(trunk: nn.Module) -> Layout:
    """Blocks are counted within stages."""
    renames = [(r"^conv1\.", "features.0."), (r"^conv_final\.", "features.8.")]
    places = enumerate(_stages(trunk))
    return Layout(renames + [(rf"^blocks\.{i}\.", f"features.{stage + 1}.{place}.") for i, (stage, place) in places])


_MBCONV = ("conv_pw", "conv_dw", "se", "conv_pwl")
_MBCONV_WITHOUT_EXPANSION = ("conv_dw", "se", "conv_pw")


def _timm_efficientnet(trunk: nn.Module) -> Layout:
    """Layers of a block have names there, and its norms are counted."""
    renames = [(r"^conv1\.0\.", "conv_stem."), (r"^conv1\.1\.", "bn1.")]
    renames += [(r"^conv_final\.0\.", "conv_head."), (r"^conv_final\.1\.", "bn2.")]
    for i, (stage, place) in enumerate(_stages(trunk)):
        layers = list(trunk.get_submodule(f"blocks.{i}.block").children())
        norms = itertools.count(1)
        for k, name in enumerate(_MBCONV if len(layers) == len(_MBCONV) else _MBCONV_WITHOUT_EXPANSION):
            squeezes = name == "se"
            ours = ("fc1", "fc2") if squeezes else ("0", "1")
            theirs = ("se.conv_reduce", "se.conv_expand") if squeezes else (name, f"bn{next(norms)}")
            for one, other in zip(ours, theirs, strict=True):
                renames.append((rf"^blocks\.{i}\.block\.{k}\.{one}\.", f"blocks.{stage}.{place}.{other}."))
    return Layout(renames)


_TABLE = "attn.relative_position_bias_table"
_QKV = "blocks.0.attn.qkv.weight"

SCHEMES: Sequence[Scheme] = (
    Scheme(Library.VISSL, "ResNetSK", "net.1.blocks.0.net.2.main_conv.0.weight", RESNET_SK),
    Scheme(Library.VISSL, "ResNet", "_feature_blocks.layer1.0.conv1.weight", RESNET),
    Scheme(Library.TORCHVISION, "ResNet", "layer1.0.conv1.weight", Layout()),
    Scheme(Library.LIGHTLY, "ResNet", "4.0.conv1.weight", _SEQUENTIAL),
    Scheme(Library.HUGGING_FACE, "ResNet", "embedder.embedder.convolution.weight", _HF_RESNET),
    Scheme(Library.CLASSY_VISION, "ResNet", "blocks.0.block0-0.convolutional_block.6.weight", _CLASSY_BOTTLENECK),
    Scheme(Library.CLASSY_VISION, "ResNet", "blocks.0.block0-0.convolutional_block.0.weight", _CLASSY_BASIC),
    Scheme(Library.CAFFE2, "ResNet", "res2_0_branch2a_w", _CAFFE2_RESNET, _CAFFE2_OTHERS),
    Scheme(Library.DETECTRON2, "ResNet", "res2.0.conv1.weight", _DETECTRON2),
    Scheme(Library.VISSL, "RegNet", "_feature_blocks.conv1.stem.0.weight", REGNET),
    Scheme(Library.TORCHVISION, "RegNet", "trunk_output.block1.block1-0.f.a.0.weight", _TORCHVISION_REGNET),
    Scheme(Library.TIMM, "RegNet", "s1.b1.conv1.conv.weight", _TIMM_REGNET),
    Scheme(Library.VISSL, "EfficientNet", "_feature_blocks.block0.depthwise_conv.weight", LAYOUTS["EfficientNet"]),
    Scheme(Library.TORCHVISION, "EfficientNet", "features.1.0.block.1.fc1.weight", _torchvision_efficientnet),
    Scheme(Library.TIMM, "EfficientNet", "blocks.0.0.se.conv_reduce.weight", _timm_efficientnet),
    Scheme(Library.VISSL, "MobileNetV3", "model.features.0.0.weight", MOBILENET),
    Scheme(Library.TORCHVISION, "MobileNetV3", "features.1.block.0.0.weight", Layout()),
    Scheme(Library.VISSL, "AlexNet", "_feature_blocks.0.0.weight", ALEXNET),
    Scheme(Library.CAFFE2, "AlexNet", "conv5_w", _CAFFE2_ALEXNET, _CAFFE2_OTHERS),
    Scheme(Library.AUTHORS, "AlexNet", "features.14.weight", _DEEPCLUSTER, OTHERS + r"|^(top_layer|classifier)\."),
    Scheme(Library.VISSL, "XCiT", "cls_attn_blocks.0.attn.qkv.weight", XCIT),
    Scheme(Library.TIMM, "XCiT", "cls_attn_blocks.0.attn.q.weight", _TIMM_XCIT),
    Scheme(Library.VISSL, "ConViT", "blocks.0.attn.pos_proj.weight", CONVIT, needs=r"(^|\.)class_token$"),
    Scheme(Library.TIMM, "ConViT", "blocks.0.attn.pos_proj.weight", _TIMM_CONVIT, needs=r"(^|\.)cls_token$"),
    Scheme(Library.TIMM, "BEiT", "blocks.0.attn.q_bias", _TIMM_BEIT),
    Scheme(Library.TIMM, "BEiT", "blocks.0.gamma_1", _TIMM_BEIT),
    Scheme(Library.AUTHORS, "VisionTransformer", _QKV, _IBOT_VIT, needs=r"(^|\.)(?<!patch_masking\.)masked_embed$"),
    Scheme(Library.VISSL, "VisionTransformer", _QKV, TOKENS, needs=r"patch_masking\."),
    Scheme(Library.TIMM, "VisionTransformer", _QKV, _TIMM_VIT),
    Scheme(Library.TIMM, "BEiT", _QKV, BEIT),
    Scheme(
        Library.TORCHVISION,
        "VisionTransformer",
        "encoder.layers.encoder_layer_0.self_attention.in_proj_weight",
        _TORCHVISION_VIT,
    ),
    Scheme(Library.HUGGING_FACE, "VisionTransformer", "encoder.layer.0.layernorm_before.weight", _HF_VIT),
    Scheme(Library.HUGGING_FACE, "VisionTransformer", "encoder.layer.0.layer_scale1.lambda1", _HF_DINOV2),
    Scheme(Library.TORCHVISION, "ConvNeXt", "features.1.0.layer_scale", _TORCHVISION_CONVNEXT, r"^classifier\.2\."),
    Scheme(Library.TIMM, "ConvNeXt", "stages.0.blocks.0.conv_dw.weight", _TIMM_CONVNEXT, r"^head\.(?!norm\.)"),
    Scheme(Library.AUTHORS, "ConvNeXt", "stages.0.0.dwconv.weight", CONVNEXT),
    Scheme(Library.HUGGING_FACE, "ConvNeXt", "encoder.stages.0.layers.0.dwconv.weight", _HF_CONVNEXT),
    Scheme(Library.TIMM, "SwinTransformer", f"layers.0.blocks.0.{_TABLE}", _TIMM_SWIN),
    Scheme(Library.AUTHORS, "SwinTransformer", f"layers.0.blocks.0.{_TABLE}", _SWIN, OTHERS + r"|\.attn_mask$"),
    Scheme(Library.TORCHVISION, "SwinTransformer", f"features.1.0.{_TABLE}", _TORCHVISION_SWIN),
)
"""In the order in which they are tried: where two have the same names, the first one is said."""

FAMILY_OF = {"AnyNet": "RegNet", "NamedRegNet": "RegNet"}
"""The family of trunks of ours that are special cases, or the general case, of one."""


def family_of(trunk: nn.Module) -> str:
    """The family of a trunk of ours; "" for one of somebody else."""
    kind = type(trunk)
    return FAMILY_OF.get(kind.__name__, kind.__name__) if kind.__module__.startswith("ssltyped.trunks.") else ""
