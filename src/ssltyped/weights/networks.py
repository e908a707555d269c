"""Networks of torchvision and timm that compute what a trunk of ours does, as the code that makes them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Optional

from torch import nn

from ssltyped.trunks.base import InputColor, StagedTrunk
from ssltyped.trunks.beit import BEiT
from ssltyped.trunks.convit import Classifier, ConViT
from ssltyped.trunks.convnext import ConvNeXt
from ssltyped.trunks.efficientnet import EfficientNet
from ssltyped.trunks.libraries import TimmTrunk
from ssltyped.trunks.mobilenet import MobileNetV3
from ssltyped.trunks.regnet import Activation, AnyNet, RegNet, RegNetStem
from ssltyped.trunks.resnet import BASIC_DEPTHS, NUM_BLOCKS, Norm, ResNet, Stem
from ssltyped.trunks.swin import SwinTransformer, WindowAttention
from ssltyped.trunks.vit import VisionTransformer
from ssltyped.trunks.xcit import XCiT

NAMED_RESNETS = {
    (18, 1, 64): "resnet18",
    (34, 1, 64): "resnet34",
    (50, 1, 64): "resnet50",
    (101, 1, 64): "resnet101",
    (152, 1, 64): "resnet152",
    (50, 32, 4): "resnext50_32x4d",
    (50, 1, 128): "wide_resnet50_2",
    (101, 1, 128): "wide_resnet101_2",
}
"""By depth, groups and width of a group; torchvision's names, which timm has too."""


class LacksError(ValueError):
    """A library has no network that computes what the trunk does; the message says what differs."""


@dataclasses.dataclass(frozen=True)
class Network:
    """A network of a library.

    Args:
        code: the expression that makes it.
        imports: lines before it.
        bare: the place of its classifier, which is to become an identity; "" if it is made without one.
    """

    code: str
    imports: str
    bare: str = ""

    def lines(self, load: str) -> str:
        """Python that makes it and loads the weights that `load`, an expression, gives."""
        bare = [f"network.{self.bare} = torch.nn.Identity()"] if self.bare else []
        return "\n".join([self.imports, f"network = {self.code}", *bare, f"network.load_state_dict({load})"])


def require(differences: Mapping[str, object]) -> None:
    """Raises LacksError for what is true of these."""
    if wrong := [text for text, there in differences.items() if there]:
        raise LacksError("; ".join(wrong))


def resnet_differences(trunk: ResNet) -> dict[str, object]:
    """What sets a ResNet apart from those of all libraries."""
    return {
        f"its norm is {trunk.norm.value}, not batch": trunk.norm is not Norm.BATCH,
        "its stem is that of small images": trunk.stem is Stem.SMALL,
        "its convolutions are standardized": trunk.standardize_convolutions,
        "its last stage has stride 1": trunk.layer4_stride == 1,
    }


def _channels(trunk: StagedTrunk, any_number: bool) -> dict[str, object]:
    seen = trunk.input.seen_channels
    return {
        f"it sees {trunk.input.color.value.upper()} images": trunk.input.color is not InputColor.RGB,
        f"it sees {seen} channels, not 3": seen != 3 and not any_number,
    }


def _resnet(library: str, trunk: ResNet) -> Network:
    require(
        {f"it is {trunk.width_multiplier:g} times as wide": trunk.width_multiplier != 1, **resnet_differences(trunk)}
    )
    place, channels = "torchvision.models", trunk.input.seen_channels
    name = NAMED_RESNETS.get((trunk.depth, trunk.groups, trunk.width_per_group))
    block = "BasicBlock" if trunk.depth in BASIC_DEPTHS else "Bottleneck"
    blocks, groups, width = list(NUM_BLOCKS[trunk.depth]), trunk.groups, trunk.width_per_group
    if library == "torchvision":
        options = f"groups={groups}, width_per_group={width}"
        code = f"{place}.{name}()" if name else f"{place}.resnet.ResNet({place}.resnet.{block}, {blocks}, {options})"
        return Network(code, "import torch, torchvision", "fc")
    options = f"num_classes=0, in_chans={channels}"
    kind = "timm.models.resnet"
    made = f"{kind}.ResNet({kind}.{block}, {blocks}, cardinality={groups}, base_width={width}, {options})"
    return Network(f'timm.create_model("{name}", {options})' if name else made, "import torch, timm")


def _torchvision_vit(trunk: VisionTransformer) -> Network:
    require(
        {
            "it has no class token": not trunk.use_class_token,
            "its queries, keys and values have no bias": not trunk.qkv_bias,
            "its branches are scaled": trunk.layer_scale is not None,
            "it has its own qk_scale": trunk.qk_scale is not None,
        }
    )
    sizes = f"{trunk.image_size}, {trunk.patch_size}, {trunk.num_layers}, {trunk.num_heads}, {trunk.hidden_dim}"
    return Network(
        f"torchvision.models.VisionTransformer({sizes}, {trunk.mlp_dim})", "import torch, torchvision", "heads.head"
    )


def _timm_vit(trunk: VisionTransformer) -> Network:
    require({"it has its own qk_scale": trunk.qk_scale is not None})
    pool = "" if trunk.use_class_token else ', class_token=False, global_pool="avg", fc_norm=False'
    sizes = f"img_size={trunk.image_size}, patch_size={trunk.patch_size}, embed_dim={trunk.hidden_dim}"
    more = f"depth={trunk.num_layers}, num_heads={trunk.num_heads}, mlp_ratio={trunk.mlp_dim / trunk.hidden_dim!r}"
    rest = f"qkv_bias={trunk.qkv_bias}, init_values={trunk.layer_scale}, in_chans={trunk.input.seen_channels}{pool}"
    place = "timm.models.vision_transformer.VisionTransformer"
    return Network(f"{place}({sizes}, {more}, {rest}, num_classes=0)", "import torch, timm")


def _timm_beit(trunk: BEiT) -> Network:
    require({"it has its own qk_scale": trunk.qk_scale is not None})
    sizes = f"img_size={trunk.image_size}, patch_size={trunk.patch_size}, embed_dim={trunk.hidden_dim}"
    more = f"depth={trunk.num_layers}, num_heads={trunk.num_heads}, mlp_ratio={trunk.mlp_ratio!r}"
    more += f", qkv_bias={trunk.qkv_bias}, init_values={trunk.init_values}, in_chans={trunk.input.seen_channels}"
    positions = f"use_abs_pos_emb={trunk.use_abs_pos_emb}, use_rel_pos_bias={trunk.use_rel_pos_bias}"
    positions += f", use_shared_rel_pos_bias={trunk.use_shared_rel_pos_bias}"
    pool = f'global_pool="{"avg" if trunk.use_mean_pooling else "token"}"'
    return Network(f"timm.models.beit.Beit({sizes}, {more}, {positions}, {pool}, num_classes=0)", "import torch, timm")


def _torchvision_convnext(trunk: ConvNeXt) -> Network:
    following: list[Optional[int]] = [*trunk.dims[1:], None]
    rows = ", ".join(
        f"config({dim}, {after}, {depth})"
        for dim, after, depth in zip(trunk.dims, following, trunk.depths, strict=True)
    )
    lines = "import torch, torchvision\nfrom torchvision.models.convnext import CNBlockConfig as config"
    return Network(f"torchvision.models.ConvNeXt([{rows}])", lines, "classifier[2]")


def _timm_convnext(trunk: ConvNeXt) -> Network:
    require({f"it has {len(trunk.depths)} stages, not 4": len(trunk.depths) != 4})
    options = f"depths={trunk.depths}, dims={trunk.dims}, in_chans={trunk.input.seen_channels}, num_classes=0"
    return Network(f"timm.models.convnext.ConvNeXt({options})", "import torch, timm")


def _windows(trunk: SwinTransformer) -> set[int]:
    return {module.window for module in trunk.modules() if isinstance(module, WindowAttention)}


def _torchvision_swin(trunk: SwinTransformer) -> Network:
    require(
        {
            "a stage has smaller windows than the others": len(_windows(trunk)) > 1,
            "its queries, keys and values have no bias": not trunk.qkv_bias,
            "it has its own qk_scale": trunk.qk_scale is not None,
        }
    )
    side, window = trunk.patch_size, trunk.window_size
    sizes = f"[{side}, {side}], {trunk.embed_dim}, {list(trunk.depths)}, {list(trunk.num_heads)}, [{window}, {window}]"
    code = f"torchvision.models.SwinTransformer({sizes}, mlp_ratio={trunk.mlp_ratio!r})"
    return Network(code, "import torch, torchvision", "head")


def _timm_swin(trunk: SwinTransformer) -> Network:
    require({"it has its own qk_scale": trunk.qk_scale is not None})
    sizes = f"img_size={trunk.image_size}, patch_size={trunk.patch_size}, embed_dim={trunk.embed_dim}"
    more = f"depths={trunk.depths}, num_heads={trunk.num_heads}, window_size={trunk.window_size}"
    rest = f"mlp_ratio={trunk.mlp_ratio!r}, qkv_bias={trunk.qkv_bias}, in_chans={trunk.input.seen_channels}"
    place = "timm.models.swin_transformer.SwinTransformer"
    return Network(f"{place}({sizes}, {more}, {rest}, num_classes=0)", "import torch, timm")


def _regnet_differences(trunk: AnyNet) -> dict[str, object]:
    return {
        "its stem is another": trunk.stem_type is not RegNetStem.SIMPLE,
        "its activation is silu": trunk.activation is not Activation.RELU,
        f"its bn_epsilon is {trunk.bn_epsilon:g}": trunk.bn_epsilon != 1e-5,
    }


def _torchvision_regnet(trunk: AnyNet) -> Network:
    require(_regnet_differences(trunk))
    stages = f"{trunk.depths}, {trunk.widths}, {trunk.group_widths}, {trunk.bottleneck_multipliers}, {trunk.strides}"
    blocks = f"torchvision.models.regnet.BlockParams({stages}, {trunk.se_ratio or None})"
    return Network(
        f"torchvision.models.RegNet({blocks}, stem_width={trunk.stem_width})", "import torch, torchvision", "fc"
    )


def _timm_regnet(trunk: AnyNet) -> Network:
    if not isinstance(trunk, RegNet):
        raise LacksError("it has no numbers of a design, of which timm makes its own")
    require({**_regnet_differences(trunk), "its bottlenecks are narrower": trunk.bottleneck_multiplier != 1})
    numbers = f"depth={trunk.depth}, w0={trunk.w_0}, wa={trunk.w_a}, wm={trunk.w_m}, group_size={trunk.group_width}"
    config = f"timm.models.regnet.RegNetCfg({numbers}, se_ratio={trunk.se_ratio}, stem_width={trunk.stem_width})"
    options = f"in_chans={trunk.input.seen_channels}, num_classes=0"
    return Network(f"timm.models.regnet.RegNet({config}, {options})", "import torch, timm")


def _efficientnet(library: str, trunk: EfficientNet) -> Network:
    require(
        {
            "its blocks do not squeeze": not trunk.use_se,
            "its widths are rounded in another way": (trunk.width_divisor, trunk.min_width) != (8, None),
        }
    )
    name = f"efficientnet_{trunk.version.value.lower()}"
    if library == "timm":
        options = f"bn_eps={trunk.bn_epsilon}, in_chans={trunk.input.seen_channels}, num_classes=0"
        return Network(f'timm.create_model("{name}", {options})', "import torch, timm")
    norm = f"functools.partial(torch.nn.BatchNorm2d, eps={trunk.bn_epsilon}, momentum={trunk.bn_momentum})"
    code = f"torchvision.models.{name}(norm_layer={norm})"
    return Network(code, "import functools\nimport torch, torchvision", "classifier")


def _torchvision_mobilenet(trunk: MobileNetV3) -> Network:
    norm = f"functools.partial(torch.nn.BatchNorm2d, eps={trunk.bn_epsilon}, momentum={trunk.bn_momentum})"
    name = f"mobilenet_v3_{trunk.size.value}"
    code = f"torchvision.models.{name}(width_mult={trunk.width_multiplier!r}, norm_layer={norm})"
    return Network(code, "import functools\nimport torch, torchvision", "classifier")


def _timm_xcit(trunk: XCiT) -> Network:
    require({"it has its own qk_scale": trunk.qk_scale is not None})
    sizes = f"patch_size={trunk.patch_size}, embed_dim={trunk.hidden_dim}, depth={trunk.num_layers}"
    more = f"num_heads={trunk.num_heads}, mlp_ratio={trunk.mlp_ratio!r}, qkv_bias={trunk.qkv_bias}, eta={trunk.eta!r}"
    rest = f"tokens_norm={trunk.tokens_norm}, in_chans={trunk.input.seen_channels}, num_classes=0"
    return Network(f"timm.models.xcit.Xcit({sizes}, {more}, {rest})", "import torch, timm")


def _timm_convit(trunk: ConViT) -> Network:
    require(
        {
            "it has its own qk_scale": trunk.qk_scale is not None,
            "its offsets are repeated": trunk.locality_dim != 1,
            "its class token goes through the gated layers": trunk.class_token_in_local_layers,
            "its feature is the mean of all tokens": trunk.classifier is not Classifier.TOKEN,
            "its width is no multiple of its heads": trunk.hidden_dim % trunk.num_heads,
        }
    )
    sizes = f"img_size={trunk.image_size}, patch_size={trunk.patch_size}, depth={trunk.num_layers}"
    sizes += f", embed_dim={trunk.hidden_dim // trunk.num_heads}, num_heads={trunk.num_heads}"
    more = f"mlp_ratio={trunk.mlp_dim / trunk.hidden_dim!r}, qkv_bias={trunk.qkv_bias}"
    more += f", local_up_to_layer={trunk.n_gpsa_layers}, norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-5)"
    options = f"in_chans={trunk.input.seen_channels}, num_classes=0"
    code = f"timm.models.convit.ConVit({sizes}, {more}, {options})"
    return Network(code, "import functools\nimport torch, timm")


def _own_timm(trunk: TimmTrunk) -> Network:
    import timm

    known = timm.get_pretrained_cfg(trunk.name, allow_unregistered=False)
    size = f", img_size={trunk.image_size}" if known is not None and known.fixed_input_size else ""
    options = f"num_classes=0, in_chans={trunk.input.seen_channels}{size}"
    return Network(f'timm.create_model("{trunk.name}", {options})', "import torch, timm")


Make = Callable[[nn.Module], Network]


def _made(kind: type[nn.Module], make: Callable[..., Network], any_number: bool, *first: str) -> Make:
    """The function for a class of trunks, that sees to the channels too."""

    def network(trunk: nn.Module) -> Network:
        assert isinstance(trunk, kind)
        assert isinstance(trunk, StagedTrunk)
        require(_channels(trunk, any_number))
        return make(*first, trunk)

    return network


TORCHVISION: Mapping[str, Make] = {
    "ResNet": _made(ResNet, _resnet, False, "torchvision"),
    "VisionTransformer": _made(VisionTransformer, _torchvision_vit, False),
    "ConvNeXt": _made(ConvNeXt, _torchvision_convnext, False),
    "SwinTransformer": _made(SwinTransformer, _torchvision_swin, False),
    "RegNet": _made(AnyNet, _torchvision_regnet, False),
    "EfficientNet": _made(EfficientNet, _efficientnet, False, "torchvision"),
    "MobileNetV3": _made(MobileNetV3, _torchvision_mobilenet, False),
}
TIMM: Mapping[str, Make] = {
    "ResNet": _made(ResNet, _resnet, True, "timm"),
    "VisionTransformer": _made(VisionTransformer, _timm_vit, True),
    "BEiT": _made(BEiT, _timm_beit, True),
    "ConvNeXt": _made(ConvNeXt, _timm_convnext, True),
    "SwinTransformer": _made(SwinTransformer, _timm_swin, True),
    "RegNet": _made(AnyNet, _timm_regnet, True),
    "EfficientNet": _made(EfficientNet, _efficientnet, True, "timm"),
    "XCiT": _made(XCiT, _timm_xcit, True),
    "ConViT": _made(ConViT, _timm_convit, True),
    "TimmTrunk": _made(TimmTrunk, _own_timm, True),
}
"""By the family of a trunk."""
