"""Recorded heads: outputs, gradients and running statistics, with the weights that VISSL had.

Weights come under VISSL's names; `layout` of each head says under which of ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Optional

import torch
from torch import Tensor, nn

from ssltyped.heads.classifier import MobileNetV3Head, ViTHead
from ssltyped.heads.eval_mlp import EvalMLPHead
from ssltyped.heads.ibot import IBOTHead, TokenNorm
from ssltyped.heads.identity import IdentityHead
from ssltyped.heads.mlp import MLPHead, Residual
from ssltyped.heads.msn import MSNHead
from ssltyped.heads.prototypes import Activation, DINOHead, PrototypesHead, Scale
from ssltyped.heads.siamese import SiameseConcatHead
from ssltyped.types import Head
from tools.golden_arrays import Adapter, Bug, Case, Inputs, Tree, read_params
from tools.golden_given import grad_of, leaf

Rename = Callable[[str], str]
"""VISSL's name of a weight to ours."""

Rows = Callable[[Tensor], Tensor]


@dataclass
class Recorded:
    """A head of ours and how it stands to the recorded one: names of weights, order of rows in and out."""

    head: Head
    rename: Rename
    rows: Rows = field(default=lambda x: x)
    outputs: Rows = field(default=lambda y: y)


def renamed(*rules: tuple[str, str]) -> Rename:
    """The first pattern that matches the whole name decides."""

    def rename(name: str) -> str:
        for pattern, replacement in rules:
            if re.fullmatch(pattern, name):
                return re.sub(pattern, replacement, name)
        raise ValueError(f"the recorded head has a weight {name!r} that ours has no place for")

    return rename


@dataclass
class MLPParams:
    dims: list[int]
    use_bn: bool = False
    use_relu: bool = False
    use_dropout: bool = False
    use_bias: bool = True
    skip_last_layer_relu_bn: bool = True
    in_channels: int = 0
    use_residual: bool = False


def mlp_head(params: MLPParams, residual: bool = False) -> MLPHead:
    only_linear = params.skip_last_layer_relu_bn and len(params.dims) == 2
    return MLPHead(
        dims=params.dims[1:],
        in_dim=params.dims[0],
        use_bn=params.use_bn and not only_linear,
        use_relu=params.use_relu,
        use_bias=params.use_bias,
        dropout=0.5 if params.use_dropout and not only_linear else 0.0,
        last_layer_bare=params.skip_last_layer_relu_bn,
        residual=residual,
    )


def mlp(case: Case) -> Recorded:
    return Recorded(mlp_head(read_params(case, MLPParams)), renamed((r"clf\.(.*)", r"layers.\1")))


def mlp_res(case: Case) -> Recorded:
    params = read_params(case, MLPParams)
    head = mlp_head(params, residual=True)
    add_skips_again(head)
    return Recorded(head, residual_names(head, params.dims, r"clf", "layers"))


def residual_names(head: MLPHead, dims: Sequence[int], theirs: str, ours: str) -> Rename:
    """There every pair of widths is a block; in ours only those that add their input."""
    rules, place = [], 0
    for block, (before, after) in enumerate(pairwise(dims)):
        pattern = rf"{theirs}\.{block}\.mlp_res_block\.(\d+)\.(.*)"
        if before == after:
            rules.append((pattern, rf"{ours}.{place}.\1.\2"))
            place += 1
            continue
        last = next((at for at in range(place + 1, len(head.layers)) if starts_block(head.layers[at])), -1)
        end = len(head.layers) if last < 0 else last
        rules += [(pattern.replace(r"(\d+)", str(at - place)), rf"{ours}.{at}.\1") for at in range(place, end)]
        place = end
    return renamed(*rules)


def starts_block(layer: nn.Module) -> bool:
    return isinstance(layer, (nn.Linear, Residual))


def add_skips_again(head: nn.Module) -> None:
    """2 x + f(x) in the place of x + f(x)."""
    for module in head.modules():
        if isinstance(module, Residual):
            module.register_forward_hook(lambda block, args, out: out + args[0])


def adds_skips(case: Case, x: Inputs) -> bool:
    return any(before == after for before, after in pairwise(read_params(case, MLPParams).dims))


def eval_mlp(case: Case) -> Recorded:
    params = read_params(case, MLPParams)
    head = EvalMLPHead(
        dims=params.dims[1:],
        in_dim=params.dims[0],
        in_channels=params.in_channels,
        use_bn=params.use_bn and len(params.dims) > 2,
        use_relu=params.use_relu,
        residual=params.use_residual,
    )
    add_skips_again(head)
    theirs = (r"clf\.clf\.(\d+)\.(.*)", r"mlp.layers.\1.\2")
    if params.use_residual:
        blocks = residual_names(head.mlp, params.dims, r"clf\.clf", "mlp.layers")
        return Recorded(head, lambda name: name if name.startswith("channel_bn") else blocks(name))
    return Recorded(head, renamed((r"channel_bn\.(.*)", r"channel_bn.\1"), theirs))


def eval_adds_skips(case: Case, x: Inputs) -> bool:
    return read_params(case, MLPParams).use_residual and adds_skips(case, x)


def eval_mlp_pooled(case: Case) -> Recorded:
    """Positions come before images in the recorded outputs."""
    made = eval_mlp(case)
    rules = renamed((r"channel_bn\.(.*)", r"channel_bn.\1"), (r"clf\.(\d+)\.(.*)", r"mlp.layers.\1.\2"))
    return Recorded(made.head, rules, outputs=lambda y: y.transpose(0, 1))


@dataclass
class Swav:
    dims: list[int]
    use_bn: bool
    num_clusters: list[int]
    use_bias: bool = True
    return_embeddings: bool = True
    skip_last_bn: bool = True
    normalize_feats: bool = True
    activation_name: str = "ReLU"
    use_weight_norm_prototypes: bool = False
    normalize_last_layer: bool = False


def swav_head(case: Case) -> Recorded:
    params = read_params(case, Swav)
    scale = Scale.ONE if params.normalize_last_layer else Scale.LEARNED
    head = PrototypesHead(
        dims=params.dims[1:],
        num_prototypes=params.num_clusters,
        in_dim=params.dims[0],
        use_bn=params.use_bn,
        use_bias=params.use_bias,
        activation=Activation[params.activation_name.upper()],
        last_layer_bare=params.skip_last_bn,
        normalize=params.normalize_feats,
        return_embedding=params.return_embeddings,
        scale=scale if params.use_weight_norm_prototypes else Scale.FREE,
    )
    rules = [
        (r"projection_head\.(.*)", r"layers.\1"),
        (r"prototypes(\d+)\.weight_g", r"prototypes.\1.scale"),
        (r"prototypes(\d+)\.weight(?:_v)?", r"prototypes.\1.weight"),
    ]
    return Recorded(head, renamed(*rules))


@dataclass
class Dino:
    in_dim: int
    num_clusters: list[int] = field(default_factory=list)
    use_bn: bool = False
    normalize_last_layer: bool = True
    num_layers: int = 3
    hidden_dim: int = 2048
    bottleneck_dim: int = 256
    out_dim: int = 0
    patch_out_dim: int = 0
    norm: Optional[str] = None
    act: str = "gelu"
    last_norm: Optional[str] = None
    shared_head: bool = False

    @property
    def scale(self) -> Scale:
        return Scale.ONE if self.normalize_last_layer else Scale.LEARNED


TOKENS = [
    (r"mlp\.(weight|bias)", r"layers.0.\1"),
    (r"mlp\.(\d+\..*)", r"layers.\1"),
    (r"prototypes0\.weight_g", "prototypes.scale"),
    (r"prototypes0\.weight_v", "prototypes.weight"),
]


def dino_head(case: Case) -> Recorded:
    params = read_params(case, Dino)
    head = DINOHead(
        num_prototypes=params.num_clusters[0],
        in_dim=params.in_dim,
        num_layers=params.num_layers,
        hidden_dim=params.hidden_dim,
        bottleneck_dim=params.bottleneck_dim,
        use_bn=params.use_bn,
        scale=params.scale,
    )
    return Recorded(head, renamed(*TOKENS))


NORMS = {None: TokenNorm.NONE, "bn": TokenNorm.BATCH, "syncbn": TokenNorm.BATCH, "ln": TokenNorm.LAYER}


def ibot_head(case: Case) -> Recorded:
    params = read_params(case, Dino)
    head = IBOTHead(
        num_prototypes=params.out_dim,
        num_patch_prototypes=None if params.shared_head else params.patch_out_dim or None,
        in_dim=params.in_dim,
        shared=params.shared_head,
        num_layers=params.num_layers,
        hidden_dim=params.hidden_dim,
        bottleneck_dim=params.bottleneck_dim,
        norm=NORMS[params.norm],
        activation=Activation(params.act),
        last_norm=NORMS[params.last_norm],
        scale=params.scale,
    )
    share_norms(head.layers)
    rules = [
        (r"prototypes1\.weight_g", "patch_prototypes.scale"),
        (r"prototypes1\.weight_v", "patch_prototypes.weight"),
        (r"last_norm\.(.*)", r"last_norm.\1"),
        (r"last_norm2\.(.*)", r"patch_last_norm.\1"),
    ]
    return Recorded(head, renamed(*TOKENS, *rules))


def share_norms(layers: nn.Module) -> None:
    """One norm in the place of each hidden layer's own."""
    assert isinstance(layers, nn.Sequential)
    norms = [place for place, layer in enumerate(layers) if isinstance(layer, (nn.LayerNorm, nn.BatchNorm1d))]
    for place in norms[1:]:
        layers[place] = layers[norms[0]]


def shares_norms(case: Case, x: Inputs) -> bool:
    params = read_params(case, Dino)
    return params.norm is not None and params.num_layers > 2


@dataclass
class Msn:
    in_dim: int
    num_prototypes: int
    use_bn: bool = False
    hidden_dim: int = 2048
    output_dim: int = 256
    label_smoothing: float = 0.0
    temperature: float = 0.1
    freeze_prototypes: bool = False
    return_query: bool = False


def msn_head(case: Case) -> Recorded:
    params = read_params(case, Msn)
    head = MSNHead(
        num_prototypes=params.num_prototypes,
        in_dim=params.in_dim,
        hidden_dim=params.hidden_dim,
        embedding_dim=params.output_dim,
        use_bn=params.use_bn,
        temperature=params.temperature,
        label_smoothing=params.label_smoothing,
        return_embedding=params.return_query,
    )
    linear = [str(place) for place, layer in enumerate(head.layers) if isinstance(layer, nn.Linear)]
    norms = [str(place) for place, layer in enumerate(head.layers) if isinstance(layer, nn.BatchNorm1d)]
    rules = [(rf"fc\.fc{number}\.(.*)", rf"layers.{place}.\1") for number, place in enumerate(linear, 1)]
    rules += [(rf"fc\.bn{number}\.(.*)", rf"layers.{place}.\1") for number, place in enumerate(norms, 1)]
    return Recorded(head, renamed(("prototypes", "prototypes"), *rules))


@dataclass
class Classifier:
    in_plane: int = 0
    num_classes: int = 1000
    hidden_dim: Optional[int] = None
    in_channels: int = 960
    mid_channels: int = 1280
    drop_out: float = 0.2
    with_bn: bool = False


def vit_head(case: Case) -> Recorded:
    params = read_params(case, Classifier)
    head = ViTHead(num_classes=params.num_classes, in_dim=params.in_plane, hidden_dim=params.hidden_dim)
    last = len(head.layers) - 1
    rules = renamed((r"layers\.pre_logits\.(.*)", r"layers.0.\1"), (r"layers\.head\.(.*)", rf"layers.{last}.\1"))
    return Recorded(head, rules)


def mobilenet_head(case: Case) -> Recorded:
    params = read_params(case, Classifier)
    head = MobileNetV3Head(
        num_classes=params.num_classes,
        in_dim=params.in_channels,
        hidden_dim=params.mid_channels,
        dropout=params.drop_out,
        use_bn=params.with_bn,
    )
    rules = renamed((r"channel_bn\.(.*)", r"channel_bn.\1"), (r"classifier\.(.*)", r"layers.\1"))
    return Recorded(head, rules)


@dataclass
class Towers:
    num_towers: int


def width_of(case: Case) -> int:
    """The last dimension of the input."""
    reference = case.inputs["x"]
    shape = reference.get("shape") if isinstance(reference, dict) else None
    assert isinstance(shape, list)
    assert isinstance(shape[-1], int)
    return shape[-1]


def siamese_head(case: Case) -> Recorded:
    """All views of an image follow one another there; in ours all images of a view do."""
    towers = read_params(case, Towers).num_towers
    head = SiameseConcatHead(num_towers=towers, in_dim=width_of(case))
    return Recorded(head, renamed(), rows=lambda x: torch.cat([x[view::towers] for view in range(towers)]))


def identity_head(case: Case) -> Recorded:
    return Recorded(IdentityHead(in_dim=width_of(case)), renamed())


def through(made: Recorded) -> Adapter:
    """A pass in eval mode, then one in training mode, as recorded."""

    def adapter(case: Case, x: Inputs) -> Mapping[str, Tree]:
        names = load_weights(made, x)
        found: dict[str, Tree] = {}
        for mode in ("eval", "train"):
            made.head.train(mode == "train")
            found |= {f"{mode}_{key}": value for key, value in one_pass(made, names, x.tensor("x")).items()}
        state, buffers = made.head.state_dict(), case.expected["buffers_after_train"]
        assert isinstance(buffers, dict)
        return {**found, "buffers_after_train": {name: state[names[name]] for name in buffers}}

    return adapter


def load_weights(made: Recorded, x: Inputs) -> dict[str, str]:
    """Put the recorded weights into the head; the name of ours for each of theirs."""
    recorded = x.tree["state_dict"]
    assert isinstance(recorded, dict)
    names = {name: made.rename(name) for name in recorded}
    made.head.load_state_dict({names[name]: value for name, value in recorded.items()})
    return names


def one_pass(made: Recorded, names: Mapping[str, str], x: Tensor) -> dict[str, Tree]:
    """Outputs, and the gradients of the sum of each output times the cosines of 0, 1, 2, ..."""
    made.head.zero_grad()
    given = leaf(x)
    out = made.head(made.rows(given))
    outputs = [made.outputs(y) for y in ([out] if isinstance(out, Tensor) else out)]
    weighed = [(y * torch.arange(y.numel(), dtype=y.dtype).cos().reshape(y.shape)).sum() for y in outputs]
    torch.autograd.backward(torch.stack(weighed).sum())
    learned = dict(made.head.named_parameters())
    return {"outputs": outputs, "grad_input": grad_of(given), "grad_params": dict(gradients(names, learned))}


def gradients(names: Mapping[str, str], learned: Mapping[str, nn.Parameter]) -> Iterator[tuple[str, Tensor]]:
    """Of each parameter that learns; of a shared one once."""
    for theirs, ours in names.items():
        if ours in learned and learned[ours].requires_grad:
            yield theirs, grad_of(learned[ours])


HEADS: Mapping[str, Callable[[Case], Recorded]] = {
    "mlp": mlp,
    "mlp_fsdp": mlp,
    "mlp_res": mlp_res,
    "eval_mlp": eval_mlp,
    "eval_mlp_fsdp": eval_mlp,
    "eval_mlp_pooled": eval_mlp_pooled,
    "swav_head": swav_head,
    "dino_head": dino_head,
    "ibot_head": ibot_head,
    "msn_head": msn_head,
    "siamese_concat_view": siamese_head,
    "vision_transformer_head": vit_head,
    "mobilenet_v3_head": mobilenet_head,
    "identity": identity_head,
}


def of_head(build: Callable[[Case], Recorded]) -> Adapter:
    """The adapter of a head."""
    return lambda case, x: through(build(case))(case, x)


ADAPTERS: Mapping[str, Adapter] = {f"head/{name}": of_head(build) for name, build in HEADS.items()}

BUGS: Mapping[str, Sequence[Bug]] = {
    "head/mlp_res": [Bug("a residual block adds its input twice", adds_skips)],
    "head/eval_mlp": [Bug("a residual block adds its input twice", eval_adds_skips)],
    "head/ibot_head": [Bug("all hidden layers of iBOT's head share one norm", shares_norms)],
    "head/msn_head": [
        Bug("freeze_prototypes freezes nothing", lambda case, x: read_params(case, Msn).freeze_prototypes)
    ],
}
