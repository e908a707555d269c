"""ConViT: a vision transformer whose first layers can start as convolutions."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from functools import partial
from typing import Annotated, Optional

import torch
from annotated_types import Ge, Gt, Lt
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ssltyped.config import config_for, refuse
from ssltyped.trunks.base import Input, InputConf, Stage, StagedTrunk, check_names
from ssltyped.trunks.transformer import Attention, Block, Grid, Linear, PatchEmbed, Style, drawn, drop_path_rates
from ssltyped.trunks.vit import resized_positions
from ssltyped.types import Features, Problem

NORM_EPS = 1e-5


class Classifier(Enum):
    """Which feature is the default: the class token's (`TOKEN`), or the mean of all tokens (`GAP`)."""

    TOKEN = "token"
    GAP = "gap"


class GatedAttention(nn.Module):
    """Gated positional self-attention: each head mixes attention to content with attention to positions.

        A = (1 - s(lambda)) softmax(scale q k^T) + s(lambda) softmax((w . r + b) / locality_dim),   y = proj(A v)

    s is the sigmoid, lambda a learned gate of each head that starts at 1, r the offset (dx, dy, dx^2 + dy^2) from the
    patch that looks to the one it looks at, each of the three repeated `locality_dim` times. d'Ascoli et al. 2021
    (arXiv 2103.10697), section 3, eq. 7.
    """

    def __init__(self, style: Style, locality_dim: int) -> None:
        super().__init__()
        self.style, self.locality_dim = style, locality_dim
        self.qk = Linear(style.dim, 2 * style.dim, bias=style.qkv_bias)
        self.v = Linear(style.dim, style.dim, bias=style.qkv_bias)
        self.proj = Linear(style.dim, style.dim)
        self.pos_proj = Linear(3 * locality_dim, style.num_heads)
        self.alpha = nn.Parameter(torch.ones(1, style.num_heads, 1, 1))

    def forward(self, x: Float[Tensor, "B T D"], offsets: Float[Tensor, "T T 3"]) -> Float[Tensor, "B T D"]:
        heads = self.style.num_heads
        q, k = self.qk(x).view(*x.shape[:2], 2, heads, -1).permute(2, 0, 3, 1, 4)
        v: Tensor = self.v(x).view(*x.shape[:2], heads, -1).transpose(1, 2)
        scale = (x.shape[2] // heads) ** -0.5 if self.style.qk_scale is None else self.style.qk_scale
        content = (q @ k.transpose(2, 3) * scale).softmax(-1)
        gate = torch.sigmoid(self.alpha)
        mixed = (1 - gate) * content + gate * self.positional(offsets)
        mixed = F.dropout(mixed, self.style.attention_dropout_rate, self.training)
        y = (mixed @ v).transpose(1, 2).flatten(2)
        return F.dropout(self.proj(y), self.style.dropout_rate, self.training)

    def positional(self, offsets: Float[Tensor, "T T 3"]) -> Float[Tensor, "1 h T T"]:
        """Attention to positions; the repeated offsets need not exist, as repeating is summing the weights."""
        weight = self.pos_proj.weight.view(-1, 3, self.locality_dim).sum(2)
        scores = F.linear(offsets.to(weight.dtype), weight, self.pos_proj.bias) / self.locality_dim
        return scores.permute(2, 0, 1).softmax(-1).unsqueeze(0)

    def start_as_convolution(self, strength: float) -> None:
        """Head (i, j) of a k x k square looks at one place of a k x k kernel, and values are the tokens themselves.

        The offset of head h = i + k j from the centre is Delta = (j - c, i - c), and its weights are strength
        (2 Delta_x, 2 Delta_y, -1), so that scores are -strength |r - Delta|^2 up to a constant (eq. 8 and 9). Heads
        past the largest square keep their random start.
        """
        if self.v.weight.is_meta:
            return
        side = math.isqrt(self.style.num_heads)
        center = (side - 1) / 2
        weight = self.pos_proj.weight.data.view(-1, 3, self.locality_dim)
        for j in range(side):
            for i in range(side):
                for k, value in enumerate((2 * (j - center), 2 * (i - center), -1.0)):
                    weight[i + side * j, k] = strength * value
        nn.init.eye_(self.v.weight)


class ConViT(StagedTrunk):
    """ConViT: images (B C H W) to tokens, gated positional layers, plain layers, and features of the normalized tokens.

        lastCLS   class token                       (B D)        lastBLK   all tokens, class token first  (B 1+hw D)
        lastPOOL  mean of all tokens                (B D)        lastMAP   patches                        (B h w D)

    Blocks are pre-norm; the first `n_gpsa_layers` have `GatedAttention`, the others plain attention. Patches get
    learned positions. The class token, which has none, joins after the gated layers, or before them with
    `class_token_in_local_layers`; there it lies at offset 0 from every token. The default feature is lastCLS for
    TOKEN and lastPOOL for GAP.

    d'Ascoli et al. 2021 (arXiv 2103.10697): 10 gated layers of 12, strength 1, and square numbers of heads of 64
    features (4, 9 or 16; section 3 and table 1). Norms have eps 1e-5; linear layers, class token and positions start
    from a truncated normal of std 0.02, biases at 0, then the gated layers as convolutions. For other image sizes
    positions are interpolated (bicubic). Raises ValueError for an unknown feature, widths and sizes that do not fit, a
    class token that no layer sees, an option without effect.

    Args:
        image_size: side of the images for which positions are learned, in pixels.
        patch_size: side of a patch, in pixels.
        num_layers: blocks in all.
        n_gpsa_layers: how many of them, from the first on, have gated positional attention.
        num_heads: heads of each attention; they divide hidden_dim.
        hidden_dim: features of a token, D.
        mlp_dim: hidden features of each MLP.
        class_token_in_local_layers: the class token goes through the gated layers too.
        locality_strength: how sharply heads that start as convolutions look at their place; 0 is 1 / l in layer l.
        locality_dim: how often each of the three numbers of an offset is repeated.
        use_local_init: gated layers start as convolutions.
        classifier: which feature is the default.
        dropout_rate: dropout after the positions, after each attention and twice in each MLP.
        attention_dropout_rate: dropout of attention weights.
        drop_path_rate: stochastic depth of the last block; it grows in equal steps from 0 at the first.
        qkv_bias: queries, keys and values have a bias; none in the authors' code.
        qk_scale: factor of q . k; None is 1 / sqrt(hidden_dim / num_heads).
    """

    def __init__(
        self,
        *,
        image_size: Annotated[int, Gt(0)] = 224,
        patch_size: Annotated[int, Gt(0)] = 16,
        num_layers: Annotated[int, Gt(0)] = 12,
        n_gpsa_layers: Annotated[int, Ge(0)] = 10,
        num_heads: Annotated[int, Gt(0)] = 12,
        hidden_dim: Annotated[int, Gt(0)] = 768,
        mlp_dim: Annotated[int, Gt(0)] = 3072,
        class_token_in_local_layers: bool = False,
        locality_strength: Annotated[float, Ge(0)] = 1.0,
        locality_dim: Annotated[int, Gt(0)] = 10,
        use_local_init: bool = True,
        classifier: Classifier = Classifier.TOKEN,
        dropout_rate: Annotated[float, Ge(0), Lt(1)] = 0.0,
        attention_dropout_rate: Annotated[float, Ge(0), Lt(1)] = 0.0,
        drop_path_rate: Annotated[float, Ge(0), Lt(1)] = 0.0,
        qkv_bias: bool = False,
        qk_scale: Optional[Annotated[float, Gt(0)]] = None,
        input: Input = InputConf(),
    ) -> None:
        super().__init__(input=input)
        self.image_size, self.patch_size, self.num_layers = image_size, patch_size, num_layers
        self.n_gpsa_layers, self.num_heads, self.hidden_dim = n_gpsa_layers, num_heads, hidden_dim
        self.class_token_in_local_layers, self.classifier = class_token_in_local_layers, classifier
        self.use_local_init, self.locality_strength, self.locality_dim = use_local_init, locality_strength, locality_dim
        self.mlp_dim, self.dropout_rate, self.attention_dropout_rate = mlp_dim, dropout_rate, attention_dropout_rate
        self.drop_path_rate, self.qkv_bias, self.qk_scale = drop_path_rate, qkv_bias, qk_scale
        refuse(ConViT._faults(self))
        self.grid: Grid = (image_size // patch_size, image_size // patch_size)
        self.patch_embed = PatchEmbed(self.input.seen_channels, hidden_dim, patch_size)
        self.cls_token = drawn(1, 1, hidden_dim)
        self.pos_embed = drawn(1, self.grid[0] * self.grid[1], hidden_dim)
        self.pos_drop = nn.Dropout(dropout_rate)
        dropouts = dropout_rate, attention_dropout_rate
        style = Style(hidden_dim, num_heads, mlp_dim, qkv_bias, qk_scale, *dropouts, norm_eps=NORM_EPS)
        self.blocks = nn.ModuleList()
        for i, rate in enumerate(drop_path_rates(drop_path_rate, num_layers)):
            attention = GatedAttention(style, locality_dim) if i < n_gpsa_layers else Attention(style)
            if isinstance(attention, GatedAttention) and use_local_init:
                attention.start_as_convolution(locality_strength or 1 / (i + 1))
            self.blocks.append(Block(style, attention, rate))
        self.norm = style.norm()

    @property
    def feature_dims(self) -> Mapping[str, int]:
        pooled = ["lastPOOL", "lastCLS"] if self.classifier is Classifier.TOKEN else ["lastCLS", "lastPOOL"]
        return dict.fromkeys(["lastMAP", "lastBLK", *pooled], self.hidden_dim)

    def stages(self) -> Iterable[Stage]:
        return self.stages_on(self.grid)

    def stages_on(self, grid: Grid) -> Iterator[Stage]:
        """From patches with positions, for images with this grid of them, to the normalized tokens."""
        offsets = grid_offsets(grid, self.class_token_in_local_layers, self.pos_embed.device)
        first = 0 if self.class_token_in_local_layers else self.n_gpsa_layers
        for i, block in enumerate(self.blocks):
            if i == first:
                yield Stage(None, self._with_class_token)
            yield Stage(None, partial(block, positions=offsets) if i < self.n_gpsa_layers else block)
        yield Stage("lastBLK", self.norm)

    def forward(self, images: Float[Tensor, "B C H W"], features: Sequence[str]) -> Features:
        check_names(features, self.feature_dims)
        patches: Tensor = self.patch_embed(self.input.see(images))
        grid = (patches.shape[2], patches.shape[3])
        x = patches.flatten(2).transpose(1, 2) + resized_positions(self.pos_embed, self.grid, grid)
        x = self.walk(self.pos_drop(x), list(self.stages_on(grid)), {"lastBLK"})["lastBLK"]
        found = {"lastCLS": x[:, 0], "lastPOOL": x.mean(1), "lastBLK": x}
        found["lastMAP"] = x[:, 1:].reshape(x.shape[0], *grid, -1)
        return [found[name] for name in features]

    def _with_class_token(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B T D"]:
        return torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)

    def _faults(self) -> Iterator[Problem]:
        yield from PatchEmbed.problems(self.image_size, self.patch_size)
        yield from Style.problems("hidden_dim", self.hidden_dim, self.num_heads)
        most = self.num_layers - (not self.class_token_in_local_layers)
        if self.n_gpsa_layers > most:
            why = "" if self.class_token_in_local_layers else "; the class token joins after the gated layers"
            yield Problem("n_gpsa_layers", f"{self.n_gpsa_layers} of {self.num_layers} layers, at most {most}{why}")
        if self.class_token_in_local_layers and self.n_gpsa_layers == 0:
            yield Problem("class_token_in_local_layers", "has no effect: n_gpsa_layers is 0")
        if self.locality_strength != 1.0 and not self.use_local_init:
            yield Problem("locality_strength", "has no effect: use_local_init is false")


def grid_offsets(grid: Grid, class_token: bool, device: torch.device) -> Float[Tensor, "T T 3"]:
    """dx, dy, dx^2 + dy^2 from each patch to each; a class token, the first token, is at 0 from all."""
    y, x = (part.flatten() for part in torch.meshgrid(*(torch.arange(n, device=device) for n in grid), indexing="ij"))
    dx, dy = x - x[:, None], y - y[:, None]
    offsets = torch.stack([dx, dy, dx**2 + dy**2], dim=2).float()
    return F.pad(offsets, (0, 0, 1, 0, 1, 0)) if class_token else offsets


ConViTConf = config_for(ConViT)
