"""Vision transformer, with or without class token, for images that may be masked."""

from typing import Annotated, Optional

from annotated_types import Ge, Gt, Lt
from torch import nn

from ssltyped.config import config_for, refuse
from ssltyped.trunks.base import Input, InputConf
from ssltyped.trunks.tokens import Masking, TokenTrunk
from ssltyped.trunks.transformer import Attention, Block, Style, drop_path_rates


class VisionTransformer(TokenTrunk):
    """ViT: images (B C H W) to tokens, L blocks of attention and MLP, and features of the normalized tokens.

        x_0 = [class token; patches W_p + b_p] + positions                     (B 1+hw D), h = H // patch_size
        y   = x_l + drop(attention(norm(x_l)))
        x_{l+1} = y + drop(mlp(norm(y)))
        feature = norm(x_L)[0], ...

    Features (`ssltyped.trunks.tokens.readings`): lastCLS (B D), blkCLS{i}, concatCLS{n} (B nD); lastMAP (B h w D);
    lastBLK (B 1+hw D), blkBLK{i}, concatBLK{n}; lastPOOL, concatPOOL{n}, stridePOOL_{n}_{s}: means over the patches.
    The default is lastCLS, or lastPOOL without class token. The final norm is applied to all of them. With masking
    DROP, lastBLK has the class token and the patches that are left.

    Dosovitskiy et al. 2021 (arXiv 2010.11929); sizes: table 1, the default is ViT-B/16, and ViT-S is 384 wide with 6
    heads (Touvron et al. 2021, arXiv 2012.12877). Norms have eps 1e-6; linear layers, tokens and positions start from
    a truncated normal of std 0.02, biases at 0, the patches' map as PyTorch's convolutions. Positions are learned for
    `image_size` and interpolated for other sizes. `mask` in forward: true is a masked patch, one flag a patch; raises
    ValueError if it has another grid, if masking is NONE, if DROP finds images with different numbers of masked
    patches, or for lastMAP of a masked image with DROP. Constructor: ValueError for widths or sizes that do not fit.

    Args:
        mlp_dim: hidden features of each MLP.
        dropout_rate: dropout after the positions, after each attention and twice in each MLP.
        qkv_bias: queries, keys and values have a bias.
        use_class_token: there is a class token before the patches.
    """

    def __init__(
        self,
        *,
        image_size: Annotated[int, Gt(0)] = 224,
        patch_size: Annotated[int, Gt(0)] = 16,
        num_layers: Annotated[int, Gt(0)] = 12,
        num_heads: Annotated[int, Gt(0)] = 12,
        hidden_dim: Annotated[int, Gt(0)] = 768,
        mlp_dim: Annotated[int, Gt(0)] = 3072,
        dropout_rate: Annotated[float, Ge(0), Lt(1)] = 0.0,
        attention_dropout_rate: Annotated[float, Ge(0), Lt(1)] = 0.0,
        drop_path_rate: Annotated[float, Ge(0), Lt(1)] = 0.0,
        qkv_bias: bool = False,
        qk_scale: Optional[Annotated[float, Gt(0)]] = None,
        use_class_token: bool = True,
        masking: Masking = Masking.NONE,
        input: Input = InputConf(),
    ) -> None:
        super().__init__(input=input)
        self.image_size, self.patch_size, self.num_layers, self.num_heads = (
            image_size,
            patch_size,
            num_layers,
            num_heads,
        )
        self.hidden_dim, self.mlp_dim, self.use_class_token, self.masking = (
            hidden_dim,
            mlp_dim,
            use_class_token,
            masking,
        )
        self.dropout_rate, self.attention_dropout_rate = dropout_rate, attention_dropout_rate
        self.drop_path_rate, self.qkv_bias, self.qk_scale = drop_path_rate, qkv_bias, qk_scale
        refuse(VisionTransformer._faults(self))
        self._start(class_token=use_class_token, positions=True)
        style = Style(hidden_dim, num_heads, mlp_dim, qkv_bias, qk_scale, dropout_rate, attention_dropout_rate)
        rates = drop_path_rates(drop_path_rate, num_layers)
        self.blocks = nn.ModuleList(Block(style, Attention(style), rate) for rate in rates)
        self.norm = style.norm()


VisionTransformerConf = config_for(VisionTransformer)
