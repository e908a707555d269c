"""Which config of a family of trunks has tensors of these shapes: depth, widths, heads, patches, found by our names."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, cast

import torch
from torch import Tensor

from ssltyped.trunks.alexnet import AlexNetConf, AlexNetVariant
from ssltyped.trunks.base import Input, InputColor, InputConf
from ssltyped.trunks.beit import BEiTConf
from ssltyped.trunks.convit import ConViTConf
from ssltyped.trunks.convnext import ConvNeXtConf
from ssltyped.trunks.efficientnet import EfficientNetConf, EfficientNetVersion
from ssltyped.trunks.mobilenet import MobileNetSize, MobileNetV3Conf
from ssltyped.trunks.regnet import DESIGNS, AnyNetConf, NamedRegNetConf, RegNetName, RegNetStem, stages_of
from ssltyped.trunks.resnet import BASIC_DEPTHS, NUM_BLOCKS, Norm, ResNetConf, ResNetSKConf, Stem
from ssltyped.trunks.swin import SwinTransformerConf
from ssltyped.trunks.vit import Masking, VisionTransformerConf
from ssltyped.trunks.xcit import XCiTConf
from ssltyped.types import Trunk
from ssltyped.weights.layout import Layout

HEAD_DIM = 64
HEADS = {1280: 16, 1408: 16, 1664: 16}
"""Of transformers whose heads are not 64 wide: ViT-H (Dosovitskiy et al. 2021, table 1), ViT-g and ViT-G (Zhai et al.
2022, arXiv 2106.04560, table 2)."""


@dataclasses.dataclass(frozen=True)
class Config:
    """A config of ours, and what of it no tensor says.

    Args:
        trunk: the config.
        assumed: its fields that the shapes leave open, with the reason for their values.
    """

    trunk: Trunk
    assumed: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Shapes:
    """Shapes of tensors that somebody else has named, by our names."""

    def __init__(self, theirs: Mapping[str, Tensor], layout: Layout, num_heads: int | None = None) -> None:
        self._theirs, self._layout, self.num_heads = theirs, layout, num_heads

    def has(self, ours: str) -> bool:
        return all(name in self._theirs for name in self._layout.all_names(ours))

    def of(self, ours: str) -> torch.Size:
        """Raises KeyError where it is not there."""
        names = self._layout.all_names(ours)
        first = self._theirs[names[0]].shape
        return torch.Size([len(names) * first[0], *first[1:]]) if len(names) > 1 else first

    def count(self, template: str) -> int:
        """How many there are of names with a number, from 0 on."""
        return next(i for i in range(10_000) if not self.has(template.format(i)))

    def heads(self, dim: int, assumed: dict[str, str]) -> int:
        """How many heads share a width: as was said, else as published networks have it."""
        if self.num_heads is not None:
            return self.num_heads
        heads = HEADS.get(dim, max(1, dim // HEAD_DIM))
        assumed["num_heads"] = f"{heads}, of {dim // heads} features each, as published networks of this width have"
        return heads


def _input(shape: torch.Size) -> Input:
    return InputConf(channels=shape[1])


def resnet(s: Shapes) -> Iterator[Config]:
    """Depth from the blocks of the stages, width from the first convolution, groups from the second."""
    bottleneck = s.has("layer1.0.conv3.weight")
    counts = tuple(s.count(f"layer{stage}.{{}}.conv1.weight") for stage in (1, 2, 3, 4))
    conv1, inner = s.of("conv1.weight"), s.of("layer1.0.conv2.weight")
    assumed = {} if s.has("bn1.running_mean") else {"norm": "group, as there are no running statistics: or layer"}
    groups = inner[0] // inner[1]
    for depth, blocks in NUM_BLOCKS.items():
        if blocks == counts and bottleneck is (depth not in BASIC_DEPTHS):
            yield Config(
                ResNetConf(
                    depth=cast(Literal[18, 34, 50, 101, 152, 200], depth),
                    width_multiplier=conv1[0] / 64,
                    norm=Norm.GROUP if assumed else Norm.BATCH,
                    groups=groups,
                    width_per_group=round(inner[1] * 64 / conv1[0]) if bottleneck else 64,
                    stem=Stem.SMALL if conv1[2] == 3 else Stem.IMAGENET,
                    input=_input(conv1),
                ),
                assumed,
            )


def resnet_sk(s: Shapes) -> Iterator[Config]:
    counts = tuple(s.count(f"layer{stage}.{{}}.conv1.weight") for stage in (1, 2, 3, 4))
    width = s.of("layer1.0.conv1.weight")[0]
    for depth, blocks in NUM_BLOCKS.items():
        if blocks == counts and depth not in BASIC_DEPTHS:
            depths = cast(Literal[50, 101, 152, 200], depth)
            stem = _input(s.of("conv1.0.weight"))
            yield Config(ResNetSKConf(depth=depths, width_multiplier=width / 64, input=stem))
            squeezed = s.of("layer4.0.sk.squeeze.weight")
            ratio = squeezed[0] / squeezed[1]
            yield Config(ResNetSKConf(depth=depths, width_multiplier=width / 64, sk_ratio=ratio, input=stem))


def _masking(s: Shapes) -> Masking:
    """There is a token of the trunk's width; that of a decoder, as MAE has one, is narrower."""
    ours = s.has("mask_token") and s.of("mask_token")[-1] == s.of("patch_embed.proj.weight")[0]
    return Masking.REPLACE if ours else Masking.NONE


def vit(s: Shapes) -> Iterator[Config]:
    """Image size from the positions, widths and patches from the first layers; heads are in no shape."""
    patches, assumed = s.of("patch_embed.proj.weight"), dict[str, str]()
    class_token = s.has("cls_token")
    side = math.isqrt(s.of("pos_embed")[1] - class_token)
    yield Config(
        VisionTransformerConf(
            image_size=side * patches[2],
            patch_size=patches[2],
            num_layers=s.count("blocks.{}.attn.qkv.weight"),
            num_heads=s.heads(patches[0], assumed),
            hidden_dim=patches[0],
            mlp_dim=s.of("blocks.0.mlp.fc1.weight")[0],
            qkv_bias=s.has("blocks.0.attn.qkv.bias"),
            use_class_token=class_token,
            layer_scale=1e-5 if s.has("blocks.0.gamma_1") else None,
            masking=_masking(s),
            input=_input(patches),
        ),
        assumed,
    )


def beit(s: Shapes) -> Iterator[Config]:
    """Heads and image size from a table of relative positions, if there is one."""
    patches, assumed = s.of("patch_embed.proj.weight"), dict[str, str]()
    own, shared = (f"{where}relative_position_bias_table" for where in ("blocks.0.attn.relative.", "rel_pos_bias."))
    table = next((s.of(name) for name in (own, shared) if s.has(name)), None)
    if table is None:
        side = math.isqrt(s.of("pos_embed")[1] - 1) if s.has("pos_embed") else 224 // patches[2]
    else:
        side = (math.isqrt(table[0] - 3) + 1) // 2
    yield Config(
        BEiTConf(
            image_size=side * patches[2],
            patch_size=patches[2],
            num_layers=s.count("blocks.{}.attn.qkv.weight"),
            num_heads=table[1] if table else s.heads(patches[0], assumed),
            hidden_dim=patches[0],
            mlp_ratio=s.of("blocks.0.mlp.fc1.weight")[0] / patches[0],
            qkv_bias=s.has("blocks.0.attn.q_bias"),
            use_abs_pos_emb=s.has("pos_embed"),
            use_rel_pos_bias=s.has(own),
            use_shared_rel_pos_bias=s.has(shared),
            use_mean_pooling=not s.has("norm.weight"),
            init_values=0.1 if s.has("blocks.0.gamma_1") else None,
            masking=_masking(s),
            input=_input(patches),
        ),
        assumed,
    )


def convit(s: Shapes) -> Iterator[Config]:
    patches, places = s.of("patch_embed.proj.weight"), s.of("blocks.0.attn.pos_proj.weight")
    local = s.count("blocks.{}.attn.pos_proj.weight")
    side = math.isqrt(s.of("pos_embed")[1])
    yield Config(
        ConViTConf(
            image_size=side * patches[2],
            patch_size=patches[2],
            num_layers=s.count("blocks.{}.attn.proj.weight"),
            n_gpsa_layers=local,
            num_heads=places[0],
            hidden_dim=patches[0],
            mlp_dim=s.of("blocks.0.mlp.fc1.weight")[0],
            locality_dim=places[1] // 3,
            qkv_bias=s.has("blocks.0.attn.v.bias"),
            input=_input(patches),
        ),
        {"classifier": "token, as its authors have it: or gap"},
    )


def xcit(s: Shapes) -> Iterator[Config]:
    stem = sum(s.has(f"patch_embed.proj.{2 * i}.0.weight") for i in range(5))
    dim = s.of("cls_token")[2]
    yield Config(
        XCiTConf(
            patch_size=16 if stem == 4 else 8,
            hidden_dim=dim,
            num_layers=s.count("blocks.{}.attn.qkv.weight"),
            num_heads=s.of("blocks.0.attn.temperature")[0],
            mlp_ratio=s.of("blocks.0.mlp.fc1.weight")[0] / dim,
            qkv_bias=s.has("blocks.0.attn.qkv.bias"),
            input=_input(s.of("patch_embed.proj.0.0.weight")),
        ),
        {"tokens_norm": "true: the smallest networks of the paper have false"},
    )


def convnext(s: Shapes) -> Iterator[Config]:
    stages = range(s.count("blocks.{}.0.dwconv.weight"))
    yield Config(
        ConvNeXtConf(
            depths=tuple(s.count(f"blocks.{stage}.{{}}.dwconv.weight") for stage in stages),
            dims=tuple(s.of(f"blocks.{stage}.0.dwconv.weight")[0] for stage in stages),
            input=_input(s.of("downsample_layers.0.0.weight")),
        )
    )


def swin(s: Shapes) -> Iterator[Config]:
    """Windows and heads from the tables; the least image whose last stage has a whole window."""
    stages = range(s.count("layers.{}.blocks.0.attn.proj.weight"))
    tables = [s.of(f"layers.{stage}.blocks.0.attn.relative_position_bias_table") for stage in stages]
    windows = [(math.isqrt(rows) + 1) // 2 for rows, _ in tables]
    patches = s.of("patch_embed.proj.weight")
    size = patches[2] * 2 ** (len(stages) - 1) * windows[-1]
    yield Config(
        SwinTransformerConf(
            image_size=size,
            patch_size=patches[2],
            embed_dim=patches[0],
            depths=tuple(s.count(f"layers.{stage}.blocks.{{}}.attn.proj.weight") for stage in stages),
            num_heads=tuple(heads for _, heads in tables),
            window_size=windows[0],
            mlp_ratio=s.of("layers.0.blocks.0.mlp.fc1.weight")[0] / patches[0],
            qkv_bias=s.has("layers.0.blocks.0.attn.qkv.bias"),
            input=_input(patches),
        ),
        {"image_size": f"{size}, for which the last stage is one window: of more, every second block shifts them"},
    )


def regnet(s: Shapes) -> Iterator[Config]:
    """A published one where it has these stages, else stage by stage."""
    stages = range(_stage_count(s))
    blocks = [f"res.res{i + 2}.block{i + 1}-{{}}.f.a.0.weight" for i in stages]
    depths = [s.count(block) for block in blocks]
    firsts = [f"res.res{i + 2}.block{i + 1}-0." for i in stages]
    widths = [s.of(f"{first}f.c.0.weight")[0] for first in firsts]
    inner = [s.of(f"{first}f.b.0.weight") for first in firsts]
    stem = s.of("conv1.0.weight")
    squeezed = s.of(f"{firsts[0]}f.se.fc1.weight") if s.has(f"{firsts[0]}f.se.fc1.weight") else None
    for name in RegNetName:
        made = stages_of(DESIGNS[name])
        same = (made.depths, made.widths, made.group_widths) == (depths, widths, [shape[1] for shape in inner])
        if same and ("_x_" in name.value) is (squeezed is None) and stem[0] == 32:
            yield Config(NamedRegNetConf(name=name, input=_input(stem)))
    ratio = 0.0 if squeezed is None else squeezed[0] / stem[0]  # of what comes into the block
    yield Config(
        AnyNetConf(
            depths=depths,
            widths=widths,
            group_widths=[shape[1] for shape in inner],
            bottleneck_multipliers=[shape[0] / width for shape, width in zip(inner, widths, strict=True)],
            strides=[2] * len(widths),
            stem_type=RegNetStem.RES if stem[2] == 7 else RegNetStem.SIMPLE,
            stem_width=stem[0],
            se_ratio=0.25 if squeezed and squeezed[0] == round(0.25 * stem[0]) else ratio,
            input=_input(stem),
        ),
        {"strides": "2 in every stage", "activation": "relu: or silu"},
    )


def _stage_count(s: Shapes) -> int:
    return next(i for i in range(100) if not s.has(f"res.res{i + 2}.block{i + 1}-0.f.a.0.weight"))


def efficientnet(s: Shapes) -> Iterator[Config]:
    for version in EfficientNetVersion:
        yield Config(EfficientNetConf(version=version), {"bn_epsilon": "1e-3, as its authors' code: or 1e-5"})


def mobilenet(s: Shapes) -> Iterator[Config]:
    for size, width in ((MobileNetSize.LARGE, 960), (MobileNetSize.SMALL, 576)):
        last = 16 if size is MobileNetSize.LARGE else 12
        if s.has(f"features.{last}.0.weight"):
            multiplier = s.of(f"features.{last}.0.weight")[0] / width
            yield Config(
                MobileNetV3Conf(size=size, width_multiplier=multiplier, input=_input(s.of("features.0.0.weight")))
            )


def alexnet(s: Shapes) -> Iterator[Config]:
    for variant in AlexNetVariant:
        lab = variant is AlexNetVariant.COLORIZATION
        yield Config(AlexNetConf(variant=variant, input=InputConf(color=InputColor.LAB if lab else InputColor.RGB)))


FAMILIES: Mapping[str, Callable[[Shapes], Iterator[Config]]] = {
    "ResNet": resnet,
    "ResNetSK": resnet_sk,
    "VisionTransformer": vit,
    "BEiT": beit,
    "ConViT": convit,
    "XCiT": xcit,
    "ConvNeXt": convnext,
    "SwinTransformer": swin,
    "RegNet": regnet,
    "EfficientNet": efficientnet,
    "MobileNetV3": mobilenet,
    "AlexNet": alexnet,
}
"""Configs that may fit, the likeliest first; KeyError where a tensor that all of the family have is not there."""


def configs(
    family: str, layout: Layout, theirs: Mapping[str, Tensor], num_heads: int | None = None
) -> Sequence[Config]:
    """Configs of a family that may fit; none where a tensor that all of the family have is not there."""
    try:
        return list(FAMILIES[family](Shapes(theirs, layout, num_heads)))
    except (KeyError, IndexError, ZeroDivisionError):
        return []
