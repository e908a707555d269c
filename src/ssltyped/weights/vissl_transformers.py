"""Names and shapes that VISSL gives the weights of its transformer trunks and of ConvNeXt."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ssltyped.trunks.convnext import ConvNeXt
from ssltyped.trunks.swin import SwinTransformer
from ssltyped.trunks.tokens import TokenTrunk
from ssltyped.trunks.vit import VisionTransformer
from ssltyped.types import Trunk
from ssltyped.weights.layout import Layout


def _same(trunk: Trunk) -> Layout:
    return Layout()


def _tokens(trunk: Trunk) -> Layout:
    assert isinstance(trunk, TokenTrunk)
    return Layout(
        renames=[(r"^mask_token$", "patch_masking.masked_embed")],
        shapes=[(r"^mask_token$", (1, trunk.hidden_dim))],
    )


def _convnext(trunk: Trunk) -> Layout:
    return Layout(renames=[(r"^blocks\.", "stages."), (r"\.fc([12])\.", r".pwconv\1.")])


LAYOUTS: Mapping[type[Trunk], Callable[[Trunk], Layout]] = {
    VisionTransformer: _tokens,
    ConvNeXt: _convnext,
    SwinTransformer: _same,
}
"""By trunk: how VISSL lays out its state dict."""
