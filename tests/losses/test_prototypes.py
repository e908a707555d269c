"""How a method reaches the prototypes of a model."""

from __future__ import annotations

import torch

from ssltyped.heads.plumbing import IdentityHead
from ssltyped.heads.prototypes import DINOHead, PrototypesHead, Scale
from ssltyped.losses.prototypes import parts_with_prototypes, prototypes_of
from ssltyped.model.model import SSLModel
from ssltyped.trunks.resnet import ResNet


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
