"""How VISSL names the entries of a head's state dict: the keys below `heads.{i}.` of its checkpoints."""

from collections.abc import Callable, Mapping

from torch import nn

from ssltyped.heads.mlp import MLPHead, Residual
from ssltyped.types import Head
from ssltyped.weights.layout import Layout

_PROTOTYPES = [(r"^prototypes\.(\d+)\.", r"prototypes\1."), (r"(^prototypes\d+\.)scale$", r"\1weight_g")]


def _same(head: Head) -> Layout:
    return Layout()


def _mlp(head: Head) -> Layout:
    return Layout(renames=[(r"^layers\.", "clf.")])


def _mlp_res(head: Head) -> Layout:
    """Each linear layer with what follows it is a block there; here only one that adds its input is."""
    assert isinstance(head, MLPHead)
    renames, block, place = [], -1, 0
    for index, layer in enumerate(head.layers):
        block, place = (block + 1, 0) if isinstance(layer, Residual | nn.Linear) else (block, place + 1)
        inside = "" if isinstance(layer, Residual) else f"{place}."
        renames.append((rf"^layers\.{index}\.", f"clf.{block}.mlp_res_block.{inside}"))
    return Layout(renames=renames)


def _eval_mlp(head: Head) -> Layout:
    return Layout(renames=[(r"^mlp\.layers\.", "clf.clf.")])


def _eval_mlp_pooled(head: Head) -> Layout:
    return Layout(renames=[(r"^mlp\.layers\.", "clf.")])


def _swav(head: Head) -> Layout:
    """A matrix of prototypes is a weight, or a direction and its length."""
    scaled = any(key.endswith(".scale") for key in head.state_dict())
    renames = [(r"^layers\.", "projection_head."), *_PROTOTYPES]
    return Layout(renames=[*renames, (r"^(prototypes\d+\.)weight$", r"\1weight_v")] if scaled else renames)


def _dino(head: Head) -> Layout:
    return _token_head(head, {"prototypes": "prototypes0"})


def _ibot(head: Head) -> Layout:
    """As DINO's; our batch norms of tokens are layers inside."""
    layout = _token_head(head, {"prototypes": "prototypes0", "patch_prototypes": "prototypes1"})
    return Layout(renames=[*layout.renames, (r"^(mlp\.\d+|last_norm2?)\.norm\.", r"\1.")])


def _token_head(head: Head, prototypes: Mapping[str, str]) -> Layout:
    """The MLP of a single layer is a layer there; prototypes are directions and lengths."""
    layers = head.get_submodule("layers")
    alone = len(list(layers.children())) == 1
    renames = [(r"^layers\.0\." if alone else r"^layers\.", "mlp.")]
    for ours, theirs in prototypes.items():
        renames += [(rf"^{ours}\.weight$", f"{theirs}.weight_v"), (rf"^{ours}\.scale$", f"{theirs}.weight_g")]
    return Layout(renames=[*renames, (r"^patch_last_norm\.", "last_norm2.")])


def _msn(head: Head) -> Layout:
    """Numbers of layers for names: fc1, bn1, fc2, bn2, fc3."""
    names, norms, linears = [], 0, 0
    for index, layer in enumerate(head.get_submodule("layers").children()):
        if isinstance(layer, nn.Linear):
            linears += 1
            names.append((rf"^layers\.{index}\.", f"fc.fc{linears}."))
        elif isinstance(layer, nn.BatchNorm1d):
            norms += 1
            names.append((rf"^layers\.{index}\.", f"fc.bn{norms}."))
    return Layout(renames=names)


def _vit(head: Head) -> Layout:
    hidden = len(list(head.get_submodule("layers").children())) > 1
    names = [(r"^layers\.0\.", "layers.pre_logits."), (r"^layers\.2\.", "layers.head.")]
    return Layout(renames=names if hidden else [(r"^layers\.0\.", "layers.head.")])


def _mobilenet(head: Head) -> Layout:
    return Layout(renames=[(r"^layers\.", "classifier.")])


LAYOUTS: Mapping[str, Callable[[Head], Layout]] = {
    "mlp": _mlp,
    "mlp_fsdp": _mlp,
    "mlp_res": _mlp_res,
    "eval_mlp": _eval_mlp,
    "eval_mlp_fsdp": _eval_mlp,
    "eval_mlp_pooled": _eval_mlp_pooled,
    "swav_head": _swav,
    "swav_head_fsdp": _swav,
    "dino_head": _dino,
    "dino_head_fsdp": _dino,
    "ibot_head": _ibot,
    "msn_head": _msn,
    "siamese_concat_view": _same,
    "identity": _same,
    "vision_transformer_head": _vit,
    "mobilenet_v3_head": _mobilenet,
}
"""By VISSL's name of a head, of which several may be one class here; where it depends on the head, from the head."""
