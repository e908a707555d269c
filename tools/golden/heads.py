"""Recorded heads: outputs, gradients and running statistics, with the weights that VISSL had.

Heads are made as the importer of VISSL's recipes makes them, and their weights come through that of its checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from ssltyped import config
from ssltyped.heads.ibot import TokenBatchNorm
from ssltyped.heads.mlp import Residual
from ssltyped.interop.vissl.heads import head as imported_head
from ssltyped.interop.vissl.settings import Settings
from ssltyped.types import Head
from ssltyped.weights.vissl_heads import LAYOUTS
from tools.golden.arrays import Adapter, Bug, Case, Inputs, Tree
from tools.golden.given import grad_of, leaf

Rows: TypeAlias = Callable[[Tensor], Tensor]


def head_of(case: Case, width: int) -> Head:
    """Ours, with the bugs of VISSL that the case recorded put back."""
    _, made = imported_head([case.name, case.params], width, Settings({}, "HEAD", set()), case.id)
    head = config.build(made.head)
    if doubles_inputs(case):
        add_inputs_again(head)
    if case.name == "ibot_head":
        share_norms(head.get_submodule("layers"))
    return head


def doubles_inputs(case: Case) -> bool:
    """Whether some block of a residual MLP adds its input."""
    dims = TypeAdapter(list[int]).validate_python(case.params.get("dims", []))
    residual = case.name == "mlp_res" or bool(case.params.get("use_residual"))
    return residual and any(before == after for before, after in pairwise(dims))


def add_inputs_again(head: nn.Module) -> None:
    """2 x + f(x) in the place of x + f(x)."""
    for module in head.modules():
        if isinstance(module, Residual):
            module.register_forward_hook(lambda block, args, out: out + args[0])


def share_norms(layers: nn.Module) -> None:
    """One norm in the place of each hidden layer's own."""
    assert isinstance(layers, nn.Sequential)
    norms = [place for place, layer in enumerate(layers) if isinstance(layer, (nn.LayerNorm, TokenBatchNorm))]
    for place in norms[1:]:
        layers[place] = layers[norms[0]]


def shares_norms(case: Case) -> bool:
    layers = TypeAdapter(int).validate_python(case.params.get("num_layers", 3))
    return bool(case.params.get("norm")) and layers > 2


def rows_of(case: Case) -> Rows:
    """All views of an image follow one another there before a siamese head; in ours all images of a view do."""
    if case.name != "siamese_concat_view":
        return lambda x: x
    towers = TypeAdapter(int).validate_python(case.params["num_towers"])
    return lambda x: torch.cat([x[view::towers] for view in range(towers)])


def outputs_of(case: Case) -> Rows:
    """Positions come before images there in what a pooled head gives."""
    return (lambda y: y.transpose(0, 1)) if case.name == "eval_mlp_pooled" else (lambda y: y)


def head(case: Case, x: Inputs) -> Mapping[str, Tree]:
    """A pass in eval mode, then one in training mode."""
    ours = head_of(case, x.tensor("x").shape[-1])
    layout = LAYOUTS[case.name](ours)
    recorded = x.tree["state_dict"]
    assert isinstance(recorded, Mapping)
    layout.load(ours, {name: value for name, value in recorded.items() if isinstance(value, Tensor)})
    found: dict[str, Tree] = {}
    for mode in ("eval", "train"):
        ours.train(mode == "train")
        outputs, grad_input = one_pass(ours, x.tensor("x"), rows_of(case), outputs_of(case))
        grads = {layout.name(name): grad for name, grad in gradients(ours)}
        found |= {f"{mode}_outputs": outputs, f"{mode}_grad_input": grad_input, f"{mode}_grad_params": grads}
    buffers, state = case.expected["buffers_after_train"], layout.export(ours)
    assert isinstance(buffers, dict)
    return {**found, "buffers_after_train": {name: state.get(name) for name in buffers}}


def one_pass(head: Head, x: Tensor, rows: Rows, shown: Rows) -> tuple[list[Tensor], Tensor]:
    """Outputs, and the gradient of the sum of each output times the cosines of 0, 1, 2, ..."""
    head.zero_grad()
    given = leaf(x)
    out = head(rows(given))
    outputs = [shown(y) for y in ([out] if isinstance(out, Tensor) else out)]
    weighed = [(y * torch.arange(y.numel(), dtype=y.dtype).cos().reshape(y.shape)).sum() for y in outputs]
    torch.autograd.backward(torch.stack(weighed).sum())
    return outputs, grad_of(given)


def gradients(head: Head) -> Iterator[tuple[str, Tensor]]:
    """Of each parameter that learns; of a shared one once."""
    for name, parameter in head.named_parameters():
        if parameter.requires_grad:
            yield name, grad_of(parameter)


ADAPTERS: Mapping[str, Adapter] = {f"head/{name}": head for name in LAYOUTS}

TWICE = Bug("a residual block adds its input twice", lambda case, x: doubles_inputs(case))
BUGS: Mapping[str, Sequence[Bug]] = {
    "head/mlp_res": [TWICE],
    "head/eval_mlp": [TWICE],
    "head/ibot_head": [Bug("all hidden layers of iBOT's head share one norm", lambda case, x: shares_norms(case))],
    "head/msn_head": [
        Bug("freeze_prototypes freezes nothing", lambda case, x: bool(case.params.get("freeze_prototypes")))
    ],
}
