"""How a method reaches the prototypes of a model."""

from __future__ import annotations

import torch
from losses.proofs import LinearModel

from ssltyped.heads.identity import IdentityHead
from ssltyped.heads.prototypes import DINOHead, PrototypesHead, Scale
from ssltyped.losses.prototypes import parts_with_prototypes, prototypes_of
from ssltyped.model.model import SSLModel
from ssltyped.trunks.resnet import ResNet


def test_prototypes_of_all_heads_in_the_order_of_the_scores() -> None:
    heads = [
        PrototypesHead(dims=[4], num_prototypes=[3, 5], in_dim=64),
        IdentityHead(in_dim=64),
        DINOHead(num_prototypes=6, hidden_dim=8, bottleneck_dim=4, in_dim=64),
    ]
    model = SSLModel(trunk=ResNet(depth=18, width_multiplier=0.125), heads=heads, features=["flatten"])
    assert [tuple(matrix.shape) for matrix in prototypes_of(model)] == [(3, 4), (5, 4), (6, 4)]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)
    for part in parts_with_prototypes(model):
        part.normalize_prototypes()
    for matrix in prototypes_of(model)[:2]:
        torch.testing.assert_close(matrix.norm(dim=1), torch.ones(len(matrix)))


def test_without_prototypes_there_are_none() -> None:
    model = LinearModel()
    assert prototypes_of(model) == []
    head = PrototypesHead(dims=[4], num_prototypes=[], in_dim=8, scale=Scale.ONE)
    assert list(head.prototype_weights()) == []
