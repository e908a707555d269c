"""SwAV's, DINO's and MSN's heads: scores and assignments by hand, lengths of prototypes, and what learns."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from facts import FACTS
from heads.contract import check_head, linear, outputs_of, unit, waves
from torch import nn

from ssltyped.heads.prototypes import (
    Activation,
    DINOHead,
    MSNHead,
    Prototypes,
    PrototypesHead,
    PrototypesHeadConf,
    Scale,
    gelu_mlp,
)


@pytest.mark.parametrize(("scale", "fixed"), [(Scale.FREE, 0), (Scale.LEARNED, 0), (Scale.ONE, 2)])
def test_swav_head(scale: Scale, fixed: int) -> None:
    make = partial(PrototypesHead, dims=[6, 4], num_prototypes=[5, 3], scale=scale)
    check_head(make, waves((7, 8)), [(7, 4), (7, 5), (7, 3)], fixed=fixed)


@pytest.mark.parametrize(("scale", "fixed"), [(Scale.FREE, 0), (Scale.LEARNED, 0), (Scale.ONE, 1)])
def test_dino_head(scale: Scale, fixed: int) -> None:
    make = partial(DINOHead, num_prototypes=9, hidden_dim=6, bottleneck_dim=4, scale=scale)
    check_head(make, waves((7, 8)), [(7, 9)], fixed=fixed)


def test_swav_by_hand() -> None:
    """z = W2 relu(bn(W1 x)) of length 1, scored by each matrix."""
    torch.manual_seed(0)
    head = PrototypesHead(dims=[6, 4], num_prototypes=[5, 3], in_dim=8)
    x = waves((7, 8))
    hidden = linear(x, head.layers[0])
    hidden = (hidden - hidden.mean(0)) / (hidden.var(0, correction=0) + 1e-5).sqrt()
    z = unit(linear(hidden.clamp(min=0), head.layers[3]))
    embedding, first, second = head(x)
    torch.testing.assert_close(embedding, z)
    for scores, weight in zip((first, second), head.prototype_weights(), strict=True):
        torch.testing.assert_close(
            scores, torch.tensor([[float(row @ c) for c in weight.detach()] for row in z.detach()])
        )


def test_pooled_maps_and_fewer_outputs() -> None:
    torch.manual_seed(0)
    x = waves((4, 8))
    head = PrototypesHead(dims=[3], num_prototypes=[5], in_dim=8, return_embedding=False)
    (scores,) = head(x[:, :, None, None])
    assert torch.equal(scores, head(x)[0])
    assert (head.out_dim, list(head.out_dims)) == (5, [5])
    none = PrototypesHead(dims=[3], num_prototypes=[], in_dim=8, return_embedding=False)
    assert [tuple(z.shape) for z in none(x)] == [(4, 3)]
    assert list(none.out_dims) == [3]


@pytest.mark.parametrize("normalize", [True, False])
def test_length_of_the_embedding(normalize: bool) -> None:
    head = PrototypesHead(dims=[3], num_prototypes=[2], in_dim=8, normalize=normalize)
    lengths = head(waves((4, 8)))[0].norm(dim=1)
    assert torch.allclose(lengths, torch.ones(4)) is normalize


def test_layers_in_order() -> None:
    head = PrototypesHead(dims=[6, 4], num_prototypes=[], in_dim=8, activation=Activation.GELU, last_layer_bare=False)
    assert [type(layer) for layer in head.layers] == [nn.Linear, nn.BatchNorm1d, nn.GELU] * 2
    plain = PrototypesHead(
        dims=[6, 4], num_prototypes=[], in_dim=8, activation=Activation.NONE, use_bn=False, use_bias=False
    )
    assert [type(layer) for layer in plain.layers] == [nn.Linear] * 2
    assert [name for name, _ in plain.named_parameters()] == ["layers.0.weight", "layers.1.weight"]


def test_fixed_lengths_stay_while_directions_learn() -> None:
    """An optimizer may stretch the weights of Scale.ONE: the prototypes stay of length 1, and still turn."""
    torch.manual_seed(0)
    part = Prototypes(5, 4, Scale.ONE)
    before = part.matrix.detach().clone()
    optimizer = torch.optim.SGD([p for p in part.parameters() if p.requires_grad], lr=5.0)
    (part(waves((7, 4))) * waves((7, 5))).sum().backward()
    optimizer.step()
    torch.testing.assert_close(part.matrix.norm(dim=1), torch.ones(5))
    assert not torch.allclose(part.matrix, before, atol=1e-2)
    assert part.scale.grad is None
    stretched = part.weight.detach().clone()
    part.normalize()
    assert torch.equal(part.weight, stretched), "nothing to do: they are of length 1 by construction"


def test_learned_lengths() -> None:
    """z . c = scale |z| cos(z, c), and the gradient of a length is that cosine."""
    torch.manual_seed(0)
    part = Prototypes(1, 4, Scale.LEARNED)
    with torch.no_grad():
        part.scale.fill_(2.5)
    z = unit(waves((1, 4)))
    score = part(z)
    score.backward()
    cosine = float((z @ unit(part.weight.detach()).T).detach())
    assert float(score.detach()) == pytest.approx(2.5 * cosine, rel=1e-5)
    assert part.scale.grad is not None
    assert float(part.scale.grad) == pytest.approx(cosine, rel=1e-5)


def test_free_prototypes_are_normalized_in_place() -> None:
    head = PrototypesHead(dims=[3], num_prototypes=[5, 2], in_dim=8)
    wanted = [unit(weight.detach()) for weight in head.prototype_weights()]
    head.normalize_prototypes()
    for weight, by_hand in zip(head.prototype_weights(), wanted, strict=True):
        torch.testing.assert_close(weight.detach(), by_hand)
        assert weight.requires_grad
    dino = DINOHead(num_prototypes=5, hidden_dim=4, bottleneck_dim=3, in_dim=8, scale=Scale.FREE)
    dino.normalize_prototypes()
    torch.testing.assert_close(dino.prototype_weights()[0].norm(dim=1), torch.ones(5))


def test_dino_by_hand() -> None:
    torch.manual_seed(0)
    head = DINOHead(num_prototypes=9, hidden_dim=6, bottleneck_dim=4, in_dim=8)
    x = waves((7, 8))
    y = x
    for place in (0, 2):
        y = linear(y, head.layers[place])
        y = y * 0.5 * (1 + torch.erf(y / math.sqrt(2)))
    wanted = unit(linear(y, head.layers[4])) @ unit(head.prototypes.weight).T
    torch.testing.assert_close(head(x), wanted)
    assert float(head(x).detach().abs().max()) <= 1 + 1e-6, "cosines"


def test_dino_starts_small_and_one_layer_is_linear() -> None:
    torch.manual_seed(0)
    head = DINOHead(num_prototypes=9, hidden_dim=300, bottleneck_dim=64, in_dim=200, use_bn=True)
    kinds = [nn.Linear, nn.BatchNorm1d, nn.GELU, nn.Linear, nn.BatchNorm1d, nn.GELU, nn.Linear]
    assert [type(layer) for layer in head.layers] == kinds
    for layer in head.layers:
        if isinstance(layer, nn.Linear):
            assert float(layer.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
            assert not layer.bias.any()
    assert [type(layer) for layer in DINOHead(num_prototypes=9, num_layers=1, in_dim=8).layers] == [nn.Linear]
    assert len(gelu_mlp([3, 4, 5], nn.LayerNorm, Activation.NONE)) == 3
    assert len(outputs_of(head, waves((2, 200)))) == 1


def test_norms_take_their_settings() -> None:
    head = PrototypesHead(dims=[4, 3], num_prototypes=[2], in_dim=6, bn_eps=1e-3, bn_momentum=0.5)
    norms = [module for module in head.modules() if isinstance(module, torch.nn.BatchNorm1d)]
    assert [(norm.eps, norm.momentum) for norm in norms] == [(1e-3, 0.5)]
    asked = PrototypesHeadConf(dims=[3], num_prototypes=[2], use_bn=False, bn_eps=1e-3)
    (problem,) = PrototypesHead.problems(asked, FACTS)
    assert "no effect without use_bn" in str(problem)


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
