"""Models of Hugging Face's transformers that compute what a trunk of ours does, as their configs."""

from collections.abc import Callable, Mapping

from torch import nn

from ssltyped.trunks.base import InputColor, StagedTrunk
from ssltyped.trunks.convnext import ConvNeXt
from ssltyped.trunks.resnet import BASIC_DEPTHS, NUM_BLOCKS, ResNet
from ssltyped.trunks.vit import VisionTransformer
from ssltyped.weights.networks import require, resnet_differences

Json = Mapping[str, object]


def _resnet(trunk: ResNet) -> Json:
    grouped = (trunk.groups, trunk.width_per_group) != (1, 64)
    require({"its convolutions are grouped, or wider": grouped, **resnet_differences(trunk)})
    dims = trunk.feature_dims
    return {
        "model_type": "resnet",
        "architectures": ["ResNetModel"],
        "embedding_size": dims["conv1"],
        "hidden_sizes": [dims[f"res{stage}"] for stage in (2, 3, 4, 5)],
        "depths": list(NUM_BLOCKS[trunk.depth]),
        "layer_type": "basic" if trunk.depth in BASIC_DEPTHS else "bottleneck",
        "hidden_act": "relu",
    }


def _vit(trunk: VisionTransformer) -> Json:
    """DINOv2's where the branches are scaled, which has an MLP of a whole multiple of the width."""
    scaled = trunk.layer_scale is not None
    ratio = trunk.mlp_dim / trunk.hidden_dim
    require(
        {
            "it has no class token": not trunk.use_class_token,
            "it has its own qk_scale": trunk.qk_scale is not None,
            f"its MLPs are {ratio:g} times as wide": scaled and not ratio.is_integer(),
        }
    )
    own: Json = {
        "model_type": "dinov2",
        "architectures": ["Dinov2Model"],
        "mlp_ratio": int(ratio),
        "layerscale_value": trunk.layer_scale,
        "use_mask_token": trunk.mask_token is not None,
    }
    plain: Json = {"model_type": "vit", "architectures": ["ViTModel"], "intermediate_size": trunk.mlp_dim}
    return {
        **(own if scaled else plain),
        "hidden_size": trunk.hidden_dim,
        "num_hidden_layers": trunk.num_layers,
        "num_attention_heads": trunk.num_heads,
        "image_size": trunk.image_size,
        "patch_size": trunk.patch_size,
        "qkv_bias": trunk.qkv_bias,
        "layer_norm_eps": 1e-6,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


def _convnext(trunk: ConvNeXt) -> Json:
    return {
        "model_type": "convnext",
        "architectures": ["ConvNextModel"],
        "num_stages": len(trunk.depths),
        "depths": list(trunk.depths),
        "hidden_sizes": list(trunk.dims),
        "layer_norm_eps": 1e-6,
    }


_CONFIGS: Mapping[str, tuple[type[nn.Module], Callable[..., Json]]] = {
    "ResNet": (ResNet, _resnet),
    "VisionTransformer": (VisionTransformer, _vit),
    "ConvNeXt": (ConvNeXt, _convnext),
}
FAMILIES = tuple(_CONFIGS)


def config_json(family: str, trunk: nn.Module) -> Json:
    """What `config.json` says of a trunk of one of these families. Raises `LacksError` for what they do not have."""
    kind, make = _CONFIGS[family]
    assert isinstance(trunk, kind)
    assert isinstance(trunk, StagedTrunk)
    color = trunk.input.color
    require({f"it sees {color.value.upper()} images": color is not InputColor.RGB})
    return {"num_channels": trunk.input.seen_channels, "dtype": "float32", **make(trunk)}
