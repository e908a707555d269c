"""The classifiers that trunks were published with."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from heads.contract import check_head, linear, waves
from torch import nn

from ssltyped.heads.classifier import MobileNetV3Head, ViTHead

X = waves((5, 8))


def test_keep_the_contract() -> None:
    check_head(partial(ViTHead, num_classes=3), X, [(5, 3)])
    check_head(partial(ViTHead, num_classes=3, hidden_dim=6), X, [(5, 3)])
    check_head(partial(MobileNetV3Head, num_classes=3, hidden_dim=6, use_bn=True), X, [(5, 3)])
    check_head(partial(MobileNetV3Head, num_classes=3, hidden_dim=6), X[:, :, None, None], [(5, 3)])


def test_vit_by_hand() -> None:
    torch.manual_seed(0)
    head = ViTHead(num_classes=3, in_dim=8, hidden_dim=6)
    torch.testing.assert_close(head(X), linear(torch.tanh(linear(X, head.layers[0])), head.layers[2]))
    bare = ViTHead(num_classes=3, in_dim=8)
    torch.testing.assert_close(bare(X), linear(X, bare.layers[0]))


def test_mobilenet_by_hand() -> None:
    """hardswish(x) = x min(max(x + 3, 0), 6) / 6."""
    torch.manual_seed(0)
    head = MobileNetV3Head(num_classes=3, in_dim=8, hidden_dim=6, use_bn=True, dropout=0.0)
    with torch.no_grad():
        for layer in (head.layers[0], head.layers[3]):
            assert isinstance(layer, nn.Linear)
            layer.weight.mul_(200)  # so that all three pieces of the hard swish are met
    normal = (X - X.mean(0)) / (X.var(0, correction=0) + 1e-5).sqrt()
    hidden = linear(normal, head.layers[0])
    assert bool((hidden < -3).any())
    assert bool((hidden > 3).any())
    swish = hidden * (hidden + 3).clamp(0, 6) / 6
    torch.testing.assert_close(head(X[:, :, None, None]), linear(swish, head.layers[3]))


def test_dropout_is_off_in_evaluation() -> None:
    head = MobileNetV3Head(num_classes=3, in_dim=8, hidden_dim=600, dropout=0.5)
    assert not torch.equal(head(X), head(X))
    assert torch.equal(head.eval()(X), head(X))


@pytest.mark.parametrize(
    ("head", "deviations"),
    [
        (ViTHead(num_classes=100, in_dim=400, hidden_dim=300), [math.sqrt(1 / 400), 0.02]),
        (ViTHead(num_classes=100, in_dim=400), [0.02]),
        (MobileNetV3Head(num_classes=100, in_dim=400), [0.01, 0.01]),
    ],
)
def test_start(head: ViTHead | MobileNetV3Head, deviations: list[float]) -> None:
    layers = [layer for layer in head.layers if isinstance(layer, nn.Linear)]
    assert [float(layer.weight.detach().std()) for layer in layers] == pytest.approx(deviations, rel=0.03)
    assert not any(bool(layer.bias.any()) for layer in layers)
