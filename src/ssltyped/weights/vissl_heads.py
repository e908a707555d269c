"""How VISSL names the entries of a head's state dict: the keys below `heads.{i}.` of its checkpoints."""

from collections import Counter
from collections.abc import Callable, Mapping

from torch import nn

from ssltyped.heads.mlp import MLPHead, Residual
from ssltyped.types import Head
from ssltyped.weights.layout import Layout

SAME = Layout()
MLP = Layout(renames=[(r"^layers\.", "clf.")])
EVAL_MLP = Layout(renames=[(r"^mlp\.layers\.", "clf.clf.")])
EVAL_MLP_POOLED = Layout(renames=[(r"^mlp\.layers\.", "clf.")])
MOBILENET = Layout(renames=[(r"^layers\.", "classifier.")])


def _mlp_res(head: Head) -> Layout:
    """Each linear layer with what follows it is a block there; here only one that adds its input is."""
    assert isinstance(head, MLPHead)
    renames, block, place = [], -1, 0
    for index, layer in enumerate(head.layers):
        block, place = (block + 1, 0) if isinstance(layer, Residual | nn.Linear) else (block, place + 1)
        inside = "" if isinstance(layer, Residual) else f"{place}."
        renames.append((rf"^layers\.{index}\.", f"clf.{block}.mlp_res_block.{inside}"))
    return Layout(renames=renames)


def _swav(head: Head) -> Layout:
    """A matrix of prototypes is a weight, or a direction and its length."""
    renames = [(r"^layers\.", "projection_head."), (r"^prototypes\.(\d+)\.", r"prototypes\1.")]
    if any(key.endswith(".scale") for key in head.state_dict()):
        renames += [(r"^(prototypes\d+\.)scale$", r"\1weight_g"), (r"^(prototypes\d+\.)weight$", r"\1weight_v")]
    return Layout(renames=renames)


def _dino(head: Head) -> Layout:
    """The MLP of a single layer is a layer there; prototypes are directions and lengths.

    iBOT's has more of them, and our batch norms of tokens are layers inside.
    """
    alone = len(list(head.get_submodule("layers").children())) == 1
    renames = [(r"^layers\.0\." if alone else r"^layers\.", "mlp.")]
    for ours, theirs in (("prototypes", "prototypes0"), ("patch_prototypes", "prototypes1")):
        renames += [(rf"^{ours}\.weight$", f"{theirs}.weight_v"), (rf"^{ours}\.scale$", f"{theirs}.weight_g")]
    renames += [(r"^patch_last_norm\.", "last_norm2."), (r"^(mlp\.\d+|last_norm2?)\.norm\.", r"\1.")]
    return Layout(renames=renames)


def _msn(head: Head) -> Layout:
    """Numbers of layers for names: fc1, bn1, fc2, bn2, fc3."""
    kinds: Mapping[type[nn.Module], str] = {nn.Linear: "fc", nn.BatchNorm1d: "bn"}
    names, counts = [], Counter[str]()
    for index, layer in enumerate(head.get_submodule("layers").children()):
        if kind := kinds.get(type(layer)):
            counts[kind] += 1
            names.append((rf"^layers\.{index}\.", f"fc.{kind}{counts[kind]}."))
    return Layout(renames=names)


def _vit(head: Head) -> Layout:
    hidden = len(list(head.get_submodule("layers").children())) > 1
    names = [(r"^layers\.0\.", "layers.pre_logits."), (r"^layers\.2\.", "layers.head.")]
    return Layout(renames=names if hidden else [(r"^layers\.0\.", "layers.head.")])


LAYOUTS: Mapping[str, Callable[[Head], Layout]] = {
    "mlp": lambda head: MLP,
    "mlp_fsdp": lambda head: MLP,
    "mlp_res": _mlp_res,
    "eval_mlp": lambda head: EVAL_MLP,
    "eval_mlp_fsdp": lambda head: EVAL_MLP,
    "eval_mlp_pooled": lambda head: EVAL_MLP_POOLED,
    "swav_head": _swav,
    "swav_head_fsdp": _swav,
    "dino_head": _dino,
    "dino_head_fsdp": _dino,
    "ibot_head": _dino,
    "msn_head": _msn,
    "siamese_concat_view": lambda head: SAME,
    "identity": lambda head: SAME,
    "vision_transformer_head": _vit,
    "mobilenet_v3_head": lambda head: MOBILENET,
}
"""By VISSL's name of a head, of which several may be one class here; where it depends on the head, from the head."""

_BY_CLASS: Mapping[str, tuple[str, ...]] = {
    "EvalMLPHead": ("eval_mlp", "eval_mlp_pooled"),
    "PrototypesHead": ("swav_head",),
    "DINOHead": ("dino_head",),
    "IBOTHead": ("ibot_head",),
    "MSNHead": ("msn_head",),
    "ViTHead": ("vision_transformer_head",),
    "MobileNetV3Head": ("mobilenet_v3_head",),
}


def names_of(head: nn.Module) -> list[Layout]:
    """Layouts of VISSL's heads that a head of ours may be; none where VISSL has no such head with weights."""
    if isinstance(head, MLPHead):
        return [_mlp_res(head) if head.residual else MLP]
    known = _BY_CLASS.get(type(head).__name__, ()) if type(head).__module__.startswith("ssltyped.heads.") else ()
    return [LAYOUTS[name](head) for name in known if isinstance(head, Head)]
