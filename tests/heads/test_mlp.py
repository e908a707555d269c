"""MLPHead and EvalMLPHead: recorded numbers, what each option adds, norms by channel, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import pytest
import torch
from facts import FACTS
from golden_cases import load_cases, load_tensors
from heads.contract import check_head, waves
from torch import Tensor, nn

from ssltyped.heads.mlp import EvalMLPHead, EvalMLPHeadConf, MLPHead, MLPHeadConf, Residual


@dataclass
class Options:
    dims: list[int] = field(default_factory=list)
    use_bn: bool = False
    use_relu: bool = False
    use_bias: bool = True
    skip_last_layer_relu_bn: bool = True


@dataclass
class Case:
    id: str
    params: Options


CASES = [case for case in load_cases("heads", Case) if case.params.dims]


def build(options: Options) -> MLPHead:
    """The recorded `dims` start with the input width."""
    return MLPHead(
        in_dim=options.dims[0],
        dims=options.dims[1:],
        use_bn=options.use_bn,
        use_relu=options.use_relu,
        use_bias=options.use_bias,
        last_layer_bare=options.skip_last_layer_relu_bn,
    )


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_outputs_and_gradients_are_those_recorded(case: Case, training: bool) -> None:
    golden = load_tensors("heads")
    start = f"{case.id}/in/state_dict/clf."
    head = build(case.params)
    head.layers.load_state_dict({key.removeprefix(start): golden[key] for key in golden if key.startswith(start)})
    head.train(training)
    x = golden[f"{case.id}/in/x"].clone().requires_grad_()
    y: Tensor = head(x)
    torch.autograd.backward((y * torch.cos(torch.arange(y.numel())).view_as(y)).sum())
    mode = "train" if training else "eval"
    close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)
    close(y, golden[f"{case.id}/out/{mode}_outputs/0"])
    close(x.grad, golden[f"{case.id}/out/{mode}_grad_input"])
    for name, parameter in head.layers.named_parameters():
        close(parameter.grad, golden[f"{case.id}/out/{mode}_grad_params/clf.{name}"])
    after = f"{case.id}/out/buffers_after_train/clf."
    for key in [key for key in golden if training and key.startswith(after)]:
        close(head.layers.get_buffer(key.removeprefix(after)), golden[key])


def test_layers_in_order() -> None:
    head = MLPHead(in_dim=4, dims=[8, 6, 2], use_bn=True, dropout=0.5, bn_eps=1e-3, bn_momentum=0.2)
    inner = [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Dropout]
    assert [type(layer) for layer in head.layers] == [*inner, *inner, nn.Linear]
    norms = [layer for layer in head.layers if isinstance(layer, nn.BatchNorm1d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.2)}
    assert (head.in_dim, head.out_dim) == (4, 2)
    assert [type(layer) for layer in MLPHead(in_dim=4, dims=[8, 2], last_layer_bare=False).layers] == [
        nn.Linear,
        nn.ReLU,
    ] * 2


def test_init_scale_multiplies_weights_and_biases() -> None:
    torch.manual_seed(0)
    plain = MLPHead(in_dim=4, dims=[8, 2])
    torch.manual_seed(0)
    scaled = MLPHead(in_dim=4, dims=[8, 2], init_scale=0.25)
    for before, after in zip(plain.parameters(), scaled.parameters(), strict=True):
        torch.testing.assert_close(after, before * 0.25)
        assert after.requires_grad


def test_pooled_maps_give_what_vectors_give() -> None:
    head = MLPHead(in_dim=4, dims=[3])
    x = torch.randn(5, 4)
    assert torch.equal(head(x), head(x[:, :, None, None]))


@pytest.mark.parametrize("shape", [(2, 5), (2, 4, 2, 2), (2, 1, 2, 2), (2, 4, 1)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"reads \(B 4\) or \(B 4 1 1\)"):
        MLPHead(in_dim=4, dims=[3])(torch.zeros(shape))


@pytest.mark.parametrize(
    "config, path, text",
    [
        (MLPHeadConf(dims=[]), "dims", "is empty"),  # type: ignore[config-value]  # the point of it
        (MLPHeadConf(dims=[2], use_bn=True), "use_bn", "no effect"),
        (MLPHeadConf(dims=[2], dropout=0.5), "dropout", "no effect"),
        (MLPHeadConf(dims=[2, 2], bn_eps=1e-3), "bn_eps", "without use_bn"),
    ],
)
def test_what_cannot_work_is_a_problem_of_the_config_and_refused_when_built(
    config: MLPHead, path: str, text: str
) -> None:
    problems = list(MLPHead.problems(config, FACTS))
    assert [problem.path for problem in problems] == [path]
    assert text in problems[0].message
    with pytest.raises(ValueError, match=text):
        MLPHead(in_dim=4, dims=config.dims, use_bn=config.use_bn, dropout=config.dropout, bn_eps=config.bn_eps)


def test_building_without_in_dim_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be built without in_dim"):
        MLPHead(dims=[2])


def test_residual_layers_add_their_input() -> None:
    """Only where the widths are equal; the bare last layer too."""
    torch.manual_seed(0)
    head = MLPHead(in_dim=4, dims=[4, 6, 6], residual=True)
    first, second, relu, third = head.layers
    assert isinstance(first, Residual)
    assert isinstance(second, nn.Linear)
    assert isinstance(relu, nn.ReLU)
    assert isinstance(third, Residual)
    assert [type(layer) for layer in third] == [nn.Linear]
    x = torch.randn(5, 4)
    a, b, c = first[0], second, third[0]
    one = x + (x @ a.weight.T + a.bias).clamp(min=0)  # type: ignore[operator]  # a Linear's
    two = (one @ b.weight.T + b.bias).clamp(min=0)
    wanted = two + two @ c.weight.T + c.bias  # type: ignore[operator]  # a Linear's
    torch.testing.assert_close(head(x), wanted)
    kept = x.clone()
    head(x)
    assert torch.equal(x, kept), "the relu in place does not reach the input"


def test_a_residual_layer_of_zeros_is_the_identity() -> None:
    head = MLPHead(in_dim=4, dims=[4, 4], residual=True, use_bn=True)
    for layer in head.modules():
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    x = torch.randn(5, 4).requires_grad_()
    assert torch.equal(head(x), x)
    head(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.ones(5, 4))


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
