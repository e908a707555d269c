"""What every head keeps to: it says its widths before it has weights, and what does not learn gets no gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from ssltyped.types import Head


def outputs_of(head: Head, features: Tensor) -> list[Tensor]:
    """The outputs of a head, also if it has one only."""
    found = head(features)
    return [found] if isinstance(found, Tensor) else list(found)


def check_head(make: Callable[..., Head], features: Tensor, shapes: Sequence[tuple[int, ...]], fixed: int = 0) -> Head:
    """`make(in_dim=D)` builds a head whose outputs have these shapes; `fixed` of its parameters do not learn."""
    width = features.shape[-1] if features.ndim in (2, 3) else features.shape[1]
    with pytest.raises(ValueError, match="cannot be built without in_dim"):
        make(in_dim=None)
    torch.manual_seed(0)
    head = make(in_dim=width)
    with torch.device("meta"):
        planned = make(in_dim=width)
    assert [tuple(output.shape) for output in outputs_of(planned, features.to("meta"))] == list(shapes)
    assert list(planned.out_dims) == [shape[-1] for shape in shapes] == list(head.out_dims)
    assert (planned.out_dim, planned.in_dim) == (shapes[0][-1], width)
    assert [p.shape for p in planned.parameters()] == [p.shape for p in head.parameters()]
    x = features.clone().requires_grad_()
    outputs = outputs_of(head, x)
    assert [tuple(output.shape) for output in outputs] == list(shapes)
    torch.autograd.backward([(output * waves(output.shape)).sum() for output in outputs])
    assert x.grad is not None
    assert bool((x.grad != 0).any())
    learn = [parameter.grad for parameter in head.parameters() if parameter.requires_grad]
    assert all(grad is not None and bool(torch.isfinite(grad).all()) for grad in learn)
    still = [name for name, parameter in head.named_parameters() if not parameter.requires_grad]
    assert len(still) == fixed, still
    assert all(head.get_parameter(name).grad is None for name in still)
    return head


def waves(shape: Sequence[int]) -> Tensor:
    """Numbers without a pattern, always the same."""
    count = int(torch.tensor(list(shape)).prod())
    return torch.cos(1.7 * torch.arange(count) + 0.3 * torch.arange(count).square()).reshape(list(shape))


def linear(x: Tensor, layer: nn.Module) -> Tensor:
    """W x + b, row by row."""
    assert isinstance(layer, nn.Linear)
    rows = [[float(weight @ row) for weight in layer.weight.detach()] for row in x.detach()]
    return torch.tensor(rows) + layer.bias


def unit(x: Tensor) -> Tensor:
    """Rows of length 1."""
    return torch.stack([row / row.square().sum().sqrt() for row in x])
