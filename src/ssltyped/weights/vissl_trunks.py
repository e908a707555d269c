"""How VISSL names and shapes the entries of a trunk's state dict: the keys below `trunk.` of its checkpoints."""

from collections.abc import Callable, Mapping

from torch import nn

from ssltyped.trunks.alexnet import NAMES
from ssltyped.weights.layout import Layout

BLOCKS = "_feature_blocks."

RESNET = Layout(renames=[("^", BLOCKS)])
MOBILENET = Layout(renames=[("^", "model.")])
"""They keep torchvision's network whole, as we do its layers."""

ALEXNET = Layout(renames=[(rf"^{name}\.", rf"{BLOCKS}{i}.") for i, name in enumerate(NAMES)])
"""Numbers for names; the Sobel filter of DeepCluster stands beside the blocks."""

REGNET = Layout(
    renames=[
        (r"^conv1\.", "conv1.stem."),
        (r"^res\.", ""),
        (r"\.proj\.0\.", ".proj."),
        (r"\.proj\.1\.", ".bn."),
        (r"\.se\.fc1\.", ".se.excitation.0."),
        (r"\.se\.fc2\.", ".se.excitation.2."),
        (r"\.f\.c\.0\.", ".f.c."),
        (r"\.f\.c\.1\.", ".f.final_bn."),
        ("^", BLOCKS),
    ]
)
"""torchvision pairs each convolution with its norm; they do so only within a bottleneck."""

_SK_STEM = {0: "0", 1: "1.0", 3: "2", 4: "3.0", 6: "4", 7: "5.0"}
_SK_BLOCK = {
    "conv1": "net.0",
    "bn1": "net.1.0",
    "sk.conv": "net.2.main_conv.0",
    "sk.bn": "net.2.main_conv.1.0",
    "sk.squeeze": "net.2.mixing_conv.0",
    "sk.squeeze_bn": "net.2.mixing_conv.1.0",
    "sk.excite": "net.2.mixing_conv.2",
    "conv3": "net.3",
    "bn3": "net.4.0",
    "downsample.2": "projection.shortcut.2",
    "downsample.3": "projection.bn.0",
}

RESNET_SK = Layout(
    renames=[
        *((rf"^conv1\.{ours}\.", f"net.0.{theirs}.") for ours, theirs in _SK_STEM.items()),
        *((rf"^(layer\d\.\d+)\.{ours}\.", rf"\1.{theirs}.") for ours, theirs in _SK_BLOCK.items()),
        (r"^layer(\d)\.", r"net.\1.blocks."),
    ]
)
"""A batch norm and its relu are a pair there, and the four stages follow the stem in one sequence."""

_MBCONV = {
    "{expand}.0": "expand_conv",
    "{expand}.1": "bn0",
    "{depthwise}.0": "depthwise_conv",
    "{depthwise}.1": "bn1",
    "{squeeze}.fc1": "se_reduce",
    "{squeeze}.fc2": "se_expand",
    "{project}.0": "project_conv",
    "{project}.1": "bn2",
}


def _efficientnet(trunk: nn.Module) -> Layout:
    """The layers of a block have names there and numbers here, which start one later where a block expands."""
    renames = []
    for i, block in enumerate(trunk.get_submodule("blocks").children()):
        layers = list(block.get_submodule("block").children())
        expand, depthwise, squeeze, project = range(len(layers) - 4, len(layers))
        for ours, theirs in _MBCONV.items():
            path = ours.format(expand=expand, depthwise=depthwise, squeeze=squeeze, project=project)
            renames.append((rf"^blocks\.{i}\.block\.{path}\.", f"block{i}.{theirs}."))
    return Layout(renames=[*renames, ("^", BLOCKS)])


def _timm(trunk: nn.Module) -> Layout:
    """The same names; of MobileNet V3, the one network of timm's there, they leave out the last convolution."""
    return (
        Layout(dropped=r"^model\.conv_head\.")
        if str(getattr(trunk, "name", "")).startswith("mobilenetv3")
        else Layout()
    )


TOKENS = Layout(renames=[(r"^mask_token$", "patch_masking.masked_embed")], shapes=[(r"^mask_token$", (1, -1))])

BEIT = Layout(renames=[(r"\.attn\.relative\.", ".attn.")], dropped=r"^(fc_norm\.|mask_token$)")
"""They have no norm after mean pooling and no token for masked patches."""

CONVIT = Layout(
    renames=[(r"^cls_token$", "class_token"), (r"^pos_embed$", "pos_embedding"), (r"\.fc([12])\.", r".linear_\1.")]
)
XCIT = Layout(renames=[(r"^pos_embed\.", "pos_embeder."), (r"^cls_blocks\.", "cls_attn_blocks.")])
CONVNEXT = Layout(renames=[(r"^blocks\.", "stages."), (r"\.fc([12])\.", r".pwconv\1.")])

LAYOUTS: Mapping[str, Callable[[nn.Module], Layout]] = {
    "ResNet": lambda trunk: RESNET,
    "ResNetSK": lambda trunk: RESNET_SK,
    "AlexNet": lambda trunk: ALEXNET,
    "AnyNet": lambda trunk: REGNET,
    "RegNet": lambda trunk: REGNET,
    "NamedRegNet": lambda trunk: REGNET,
    "EfficientNet": _efficientnet,
    "MobileNetV3": lambda trunk: MOBILENET,
    "TimmTrunk": _timm,
    "VisionTransformer": lambda trunk: TOKENS,
    "ConvNeXt": lambda trunk: CONVNEXT,
    "ConViT": lambda trunk: CONVIT,
    "XCiT": lambda trunk: XCIT,
    "BEiT": lambda trunk: BEIT,
    "SwinTransformer": lambda trunk: Layout(),
}
"""The layout of a trunk by the name of its class (which need not be imported); some depend on the trunk's options."""
