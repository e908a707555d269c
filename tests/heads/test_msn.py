"""MSN's head: assignments by hand, smoothing, and prototypes that learn or not."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from heads.contract import check_head, linear, unit, waves
from torch import nn

from ssltyped.heads.msn import MSNHead

X = waves((5, 8))


@pytest.mark.parametrize("use_bn", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_keeps_the_contract(use_bn: bool, frozen: bool) -> None:
    make = partial(
        MSNHead,
        num_prototypes=6,
        hidden_dim=7,
        embedding_dim=4,
        use_bn=use_bn,
        freeze_prototypes=frozen,
        return_embedding=True,
    )
    check_head(make, X, [(5, 6), (5, 4)], fixed=int(frozen))


def test_by_hand() -> None:
    torch.manual_seed(0)
    head = MSNHead(num_prototypes=6, in_dim=8, hidden_dim=7, embedding_dim=4, return_embedding=True, temperature=0.3)
    y = X
    for place in (0, 2):
        y = linear(y, head.layers[place])
        y = y * 0.5 * (1 + torch.erf(y / math.sqrt(2)))
    q = unit(linear(y, head.layers[4]))
    powers = torch.exp(q @ unit(head.prototypes.detach()).T / 0.3)
    p, embedding = head(X)
    torch.testing.assert_close(embedding, q)
    torch.testing.assert_close(p, powers / powers.sum(1, keepdim=True))
    assert [type(layer) for layer in head.layers] == [nn.Linear, nn.GELU, nn.Linear, nn.GELU, nn.Linear]


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_smoothing_is_a_product_with_the_smoothed_labels(smoothing: float) -> None:
    """p L with L = (1 - s) I + s / K; each row still sums to 1."""
    heads = []
    for value in (0.0, smoothing):
        torch.manual_seed(0)
        heads.append(MSNHead(num_prototypes=6, in_dim=8, hidden_dim=7, embedding_dim=4, label_smoothing=value))
    (plain,), (smoothed,) = heads[0](X), heads[1](X)
    labels = (1 - smoothing) * torch.eye(6) + smoothing / 6
    torch.testing.assert_close(smoothed, plain @ labels)
    torch.testing.assert_close(smoothed.sum(1), torch.ones(5))


def test_length_of_the_prototypes_does_not_matter() -> None:
    head = MSNHead(num_prototypes=6, in_dim=8, hidden_dim=7, embedding_dim=4)
    assert float(head.prototypes.detach().abs().max()) <= 0.5, "uniform in +-1/sqrt(4)"
    before = head(X)[0].detach()
    with torch.no_grad():
        head.prototypes.mul_(torch.arange(1.0, 7.0)[:, None])
    torch.testing.assert_close(head(X)[0].detach(), before)
    assert (head.out_dim, list(head.out_dims)) == (6, [6])
