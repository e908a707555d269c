"""Names and shapes that VISSL gives the weights of its transformer trunks and of ConvNeXt."""

from collections.abc import Callable, Mapping

from ssltyped.trunks.vit import TokenTrunk
from ssltyped.types import Trunk
from ssltyped.weights.layout import Layout


def _same(trunk: Trunk) -> Layout:
    return Layout()


def _tokens(trunk: Trunk) -> Layout:
    assert isinstance(trunk, TokenTrunk)
    return Layout(
        renames=[(r"^mask_token$", "patch_masking.masked_embed")], shapes=[(r"^mask_token$", (1, trunk.hidden_dim))]
    )


def _beit(trunk: Trunk) -> Layout:
    """They have no norm after mean pooling and no token for masked patches."""
    return Layout(renames=[(r"\.attn\.relative\.", ".attn.")], dropped=r"^(fc_norm\.|mask_token$)")


def _convit(trunk: Trunk) -> Layout:
    names = [(r"^cls_token$", "class_token"), (r"^pos_embed$", "pos_embedding"), (r"\.fc([12])\.", r".linear_\1.")]
    return Layout(renames=names)


def _xcit(trunk: Trunk) -> Layout:
    return Layout(renames=[(r"^pos_embed\.", "pos_embeder."), (r"^cls_blocks\.", "cls_attn_blocks.")])


def _convnext(trunk: Trunk) -> Layout:
    return Layout(renames=[(r"^blocks\.", "stages."), (r"\.fc([12])\.", r".pwconv\1.")])


LAYOUTS: Mapping[str, Callable[[Trunk], Layout]] = {
    "VisionTransformer": _tokens,
    "ConvNeXt": _convnext,
    "ConViT": _convit,
    "XCiT": _xcit,
    "BEiT": _beit,
    "SwinTransformer": _same,
}
"""By trunk: how VISSL lays out its state dict."""
