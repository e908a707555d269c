"""What methods ask of a model: of its outputs, and of its prototypes."""

from __future__ import annotations

import pytest
import torch
from losses.proofs import facts

from ssltyped.heads.plumbing import IdentityHead
from ssltyped.heads.prototypes import DINOHead, PrototypesHead, Scale
from ssltyped.losses.outputs import (
    all_outputs,
    full_precision,
    inferred_width,
    parts_with_prototypes,
    precise,
    prototypes_of,
    wrong_crops,
)
from ssltyped.model.model import SSLModel
from ssltyped.trunks.resnet import ResNet
from ssltyped.types import Outputs


def test_precise_is_float32_at_least() -> None:
    dtypes = {torch.bfloat16: torch.float32, torch.float32: torch.float32, torch.float64: torch.float64}
    assert {dtype: precise(torch.ones(2, dtype=dtype)).dtype for dtype in dtypes} == dtypes


def test_outputs_by_head() -> None:
    z = torch.ones(2, 3)
    found = Outputs({"a": (z,), "b": (z.bfloat16(), z)}, {})
    assert found.of("a") is z
    assert [x.dtype for x in all_outputs(found, ["b", "a"])] == [torch.float32] * 3
    with pytest.raises(ValueError, match="the head 'b' has 2 outputs, where exactly one is read"):
        found.of("b")
    with pytest.raises(ValueError, match="there is no output of a head 'c'; there are a, b"):
        found.all_of("c")


def test_what_is_said_of_heads_and_crops() -> None:
    known = facts(outputs=(8, 6))
    assert [i.value for i in (*inferred_width("d", "head", known), *inferred_width("k", "head", known, 1))] == [8, 6]
    assert not list(inferred_width("d", "other", known)), "it is not known"
    (problem,) = wrong_crops("crops", [0, 2], known)
    assert str(problem) == "crops: got [0, 2], but the data makes the crops 0 to 1"


def test_full_precision_switches_autocast_off() -> None:
    x = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with full_precision(x):
            assert (x @ x).dtype == torch.float32


def test_prototypes_of_a_head_in_the_order_of_the_scores() -> None:
    heads = {
        "swav": PrototypesHead(dims=[4], num_prototypes=[3, 5], in_dim=64),
        "plain": IdentityHead(in_dim=64),
        "dino": DINOHead(num_prototypes=6, hidden_dim=8, bottleneck_dim=4, in_dim=64),
    }
    model = SSLModel(trunk=ResNet(depth=18, width_multiplier=0.125), heads=heads)
    shapes = {name: [tuple(matrix.shape) for matrix in prototypes_of(model, name)] for name in heads}
    assert shapes == {"swav": [(3, 4), (5, 4)], "plain": [], "dino": [(6, 4)]}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)
    for part in parts_with_prototypes(model, "swav"):
        part.normalize_prototypes()
    for matrix in prototypes_of(model, "swav"):
        torch.testing.assert_close(matrix.norm(dim=1), torch.ones(len(matrix)))


def test_without_prototypes_there_are_none() -> None:
    head = PrototypesHead(dims=[4], num_prototypes=[], in_dim=8, scale=Scale.ONE)
    assert list(head.prototype_weights()) == []
