"""The head of linear evaluations: BN by channel, maps and their flattened form, sequences of vectors."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from facts import FACTS
from heads.contract import check_head, waves

from ssltyped.heads.eval_mlp import EvalMLPHead, EvalMLPHeadConf
from ssltyped.heads.mlp import Residual


def test_keeps_the_contract() -> None:
    check_head(partial(EvalMLPHead, dims=[5, 3], use_bn=True, use_relu=True), waves((7, 8)), [(7, 3)])
    check_head(partial(EvalMLPHead, dims=[3]), waves((7, 2, 8)), [(7, 2, 3)])


@pytest.mark.parametrize("training", [True, False])
def test_map_by_hand(training: bool) -> None:
    """Each channel is normalized over images and places, then all values go into one linear layer."""
    torch.manual_seed(0)
    head = EvalMLPHead(dims=[3], in_dim=2 * 3 * 2, in_channels=2).train(training)
    x = waves((5, 2, 3, 2)) * 4 + 1
    with torch.no_grad():
        head.channel_bn.weight.copy_(torch.tensor([2.0, -1.0]))
        head.channel_bn.bias.copy_(torch.tensor([0.5, 0.25]))
        assert head.channel_bn.running_mean is not None
        head.channel_bn.running_mean.copy_(torch.tensor([0.1, 0.2]))
    rows = torch.empty(5, 12)
    for image in range(5):
        for channel in range(2):
            values = x[:, channel]
            mean, var = (values.mean(), values.var(correction=0)) if training else ((0.1, 0.2)[channel], 1.0)
            normal = (x[image, channel] - mean) / (var + 1e-5) ** 0.5
            by_hand = normal * (2.0, -1.0)[channel] + (0.5, 0.25)[channel]
            rows[image, channel * 6 : channel * 6 + 6] = by_hand.flatten()
    (layer,) = head.mlp.layers
    torch.testing.assert_close(head(x), rows @ layer.weight.T + layer.bias)  # type: ignore[operator]  # a Linear's


def test_a_flattened_map_gives_the_same() -> None:
    torch.manual_seed(0)
    head = EvalMLPHead(dims=[3], in_dim=12, in_channels=2)
    x = waves((5, 2, 3, 2))
    torch.testing.assert_close(head(x), head(x.flatten(1)))
    every = EvalMLPHead(dims=[3], in_dim=12)
    assert every.channel_bn.num_features == 12
    torch.testing.assert_close(every(x), every(x.flatten(1)))


def test_the_scale_of_the_feature_does_not_matter() -> None:
    torch.manual_seed(0)
    head = EvalMLPHead(dims=[3], in_dim=12, in_channels=2)
    x = waves((5, 2, 3, 2))
    torch.testing.assert_close(head(1000 * x + 7), head(1000 * x), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(head(1000 * x), head(10 * x), rtol=1e-3, atol=1e-3)


def test_vectors_of_an_image_are_rows_of_their_own() -> None:
    torch.manual_seed(0)
    head = EvalMLPHead(dims=[3], in_dim=4)
    x = waves((5, 2, 4))
    torch.testing.assert_close(head(x), head(x.reshape(10, 4)).reshape(5, 2, 3))


def test_residual_layers() -> None:
    head = EvalMLPHead(dims=[4, 3], in_dim=4, residual=True)
    assert [type(layer).__name__ for layer in head.mlp.layers] == ["Residual", "Linear"]
    assert isinstance(head.mlp.layers[0], Residual)


@pytest.mark.parametrize("shape", [(5, 11), (5, 3, 2, 3), (5, 2, 3, 3)])
def test_another_number_of_values_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="the head reads 12 values an image"):
        EvalMLPHead(dims=[3], in_dim=12, in_channels=2)(torch.zeros(shape))


def test_channels_divide_the_width() -> None:
    wrong = EvalMLPHeadConf(dims=[3], in_dim=12, in_channels=5)
    (problem,) = EvalMLPHead.problems(wrong, FACTS)
    assert (problem.path, problem.message) == ("in_channels", "got 5, which does not divide in_dim 12")
    assert not list(EvalMLPHead.problems(EvalMLPHeadConf(dims=[3], in_channels=5), FACTS))


def test_norms_take_their_settings() -> None:
    head = EvalMLPHead(dims=[4, 3], in_dim=6, use_bn=True, bn_eps=1e-3, bn_momentum=0.5)
    norms = [module for module in head.modules() if isinstance(module, torch.nn.BatchNorm1d)]
    assert [(norm.eps, norm.momentum) for norm in norms] == [(1e-3, 0.5)] * 2
    plain = EvalMLPHead(dims=[3], in_dim=6, bn_eps=1e-3)
    assert plain.channel_bn.eps == 1e-3
