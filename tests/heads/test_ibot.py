"""iBOT's heads: class token and patches by hand, shared or not, with every norm."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from facts import FACTS
from heads.contract import check_head, linear, unit, waves
from ranks import run_on_ranks
from torch import Tensor, nn

from ssltyped import distributed
from ssltyped.distributed.sync_batch_norm import convert_sync_batchnorm
from ssltyped.heads.ibot import (
    IBOTDistillationHead,
    IBOTDistillationHeadConf,
    IBOTHead,
    IBOTHeadConf,
    TokenBatchNorm,
    TokenNorm,
)
from ssltyped.heads.prototypes import Activation, Scale
from ssltyped.weights.vissl_heads import LAYOUTS

TOKENS = waves((3, 5, 8))
ibot = partial(IBOTHead, num_prototypes=6, hidden_dim=7)
distillation = partial(IBOTDistillationHead, num_prototypes=6, hidden_dim=7)


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


@pytest.mark.parametrize("last_norm", TokenNorm)
@pytest.mark.parametrize("norm", TokenNorm)
def test_outputs_of_all_tokens_and_of_the_class_token(norm: TokenNorm, last_norm: TokenNorm) -> None:
    make = partial(ibot, bottleneck_dim=4, num_patch_prototypes=9, norm=norm, last_norm=last_norm, scale=Scale.FREE)
    head = check_head(make, TOKENS, [(3, 6), (3, 4, 9)])
    (alone,) = head.eval()(TOKENS[:, 0])
    torch.testing.assert_close(alone, head(TOKENS)[0])
    distilled = partial(distillation, num_patch_prototypes=9, norm=norm, last_norm=last_norm)
    head = check_head(distilled, TOKENS, [(3, 6), (3, 4, 9)])
    (alone,) = head.eval()(TOKENS[:, 0])
    torch.testing.assert_close(alone, head(TOKENS)[0])


def test_fixed_lengths_do_not_learn() -> None:
    check_head(partial(ibot, bottleneck_dim=4), TOKENS, [(3, 6), (3, 4, 6)], fixed=2)
    check_head(partial(ibot, bottleneck_dim=4, shared=True), TOKENS, [(3, 6), (3, 4, 6)], fixed=1)


def test_by_hand() -> None:
    torch.manual_seed(0)
    head = ibot(num_patch_prototypes=9, bottleneck_dim=4, in_dim=8, norm=TokenNorm.LAYER)
    classes, patches = head(TOKENS)
    for image in range(3):
        y = TOKENS[image]
        for place in (0, 3):
            y = linear(y, head.layers[place])
            y = gelu((y - y.mean(1, True)) / (y.var(1, correction=0, keepdim=True) + 1e-5).sqrt())
        z = unit(linear(y, head.layers[6]))
        torch.testing.assert_close(classes[image], z[0] @ unit(head.prototypes.weight).T)
        torch.testing.assert_close(patches[image], z[1:] @ unit(head.patch_prototypes.weight).T)


def test_distillation_by_hand() -> None:
    torch.manual_seed(0)
    head = distillation(num_patch_prototypes=9, in_dim=8, num_layers=2, activation=Activation.RELU)
    classes, patches = head(TOKENS)
    y = linear(TOKENS.reshape(15, 8), head.layers[0]).clamp(min=0)
    last, patch_last = head.last[0], head.patch_last[0]
    torch.testing.assert_close(classes, linear(y, last).reshape(3, 5, 6)[:, 0])
    torch.testing.assert_close(patches, linear(y, patch_last).reshape(3, 5, 9)[:, 1:])


@pytest.mark.parametrize("layers", [2, 3])
def test_linear_layers_are_counted_with_the_last(layers: int) -> None:
    head = distillation(in_dim=8, num_layers=layers)
    assert sum(isinstance(module, nn.Linear) for module in (*head.layers, *head.last)) == layers
    assert isinstance(head.layers[-1], nn.GELU)


@pytest.mark.parametrize("kind", [ibot, distillation])
def test_shared_prototypes_score_patches_as_class_tokens(
    kind: Callable[..., IBOTHead] | Callable[..., IBOTDistillationHead],
) -> None:
    torch.manual_seed(0)
    head = kind(in_dim=8, shared=True, last_norm=TokenNorm.BATCH).eval()
    other = kind(in_dim=8, last_norm=TokenNorm.BATCH)
    assert sum(p.numel() for p in head.parameters()) < sum(p.numel() for p in other.parameters())
    turned = torch.stack([TOKENS[:, 1], TOKENS[:, 0]], dim=1)
    torch.testing.assert_close(head(TOKENS[:, :2])[1][:, 0], head(turned)[0])


def test_batch_norm_of_tokens_is_over_all_of_them() -> None:
    norm = TokenBatchNorm(8)
    rows = TOKENS.reshape(15, 8)
    wanted = (rows - rows.mean(0)) / (rows.var(0, correction=0) + norm.norm.eps).sqrt()
    torch.testing.assert_close(norm(TOKENS), wanted.reshape(3, 5, 8))
    assert norm.norm.running_mean is not None
    torch.testing.assert_close(norm.norm.running_mean, 0.1 * rows.mean(0))


def normed(kind: str) -> IBOTHead | IBOTDistillationHead:
    """A head with batch norm wherever there can be one, in float64."""
    torch.manual_seed(0)
    make = ibot if kind == "prototypes" else distillation
    return make(in_dim=8, norm=TokenNorm.BATCH, last_norm=TokenNorm.BATCH).double()


def learned(head: nn.Module, tokens: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Outputs and the input's gradient, the parameters' gradients, buffers."""
    x = tokens.clone().requires_grad_()
    outputs = head(x)
    torch.autograd.backward([(output**3).sum() for output in outputs])
    assert x.grad is not None
    own = [parameter.grad for parameter in head.parameters() if parameter.grad is not None]
    return [*(output.detach() for output in outputs), x.grad], own, list(head.buffers())


def learned_on_rank(kind: str, tokens: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    head = convert_sync_batchnorm(normed(kind), distributed.world_size())
    return learned(head, tokens.chunk(distributed.world_size())[distributed.rank()])


@pytest.mark.parametrize("kind", ["prototypes", "distillation"])
@pytest.mark.parametrize("tokens", [5, 7, 8])
def test_synchronised_over_ranks_as_in_one_process(kind: str, tokens: int) -> None:
    """Also with as many tokens as the input (8) or a hidden layer (7) is wide."""
    x = waves((4, tokens, 8)).double()
    rows, grads, buffers = learned(normed(kind), x)
    ranks = run_on_ranks(learned_on_rank, 2, kind, x)
    close = partial(torch.testing.assert_close, rtol=1e-8, atol=1e-8)
    for number, want in enumerate(rows):
        close(torch.cat([found[0][number] for found in ranks]), want)
    for number, want in enumerate(grads):  # losses are sums here
        close(torch.stack([found[1][number] for found in ranks]).sum(0), want)
    for _, _, found in ranks:
        close(found, buffers)


def test_batch_norms_have_their_names_in_vissl() -> None:
    head = ibot(in_dim=8, norm=TokenNorm.BATCH, last_norm=TokenNorm.BATCH)
    theirs = LAYOUTS["ibot_head"](head).export(head)
    statistics = {"running_mean", "running_var", "num_batches_tracked"}
    hidden = {f"mlp.{place}.{key}" for place in (1, 4) for key in {"weight", "bias", *statistics}}
    linears = {f"mlp.{place}.{key}" for place in (0, 3, 6) for key in ("weight", "bias")}
    lasts = {f"{name}.{key}" for name in ("last_norm", "last_norm2") for key in statistics}
    prototypes = {f"prototypes{i}.weight_{part}" for i in (0, 1) for part in "gv"}
    assert set(theirs) == hidden | linears | lasts | prototypes


def test_the_norm_of_the_scores_has_nothing_to_learn() -> None:
    for norm in (TokenNorm.BATCH, TokenNorm.LAYER):
        head = ibot(in_dim=8, last_norm=norm)
        assert not list(head.last_norm.parameters())
        rows = head(TOKENS)[1]
        axis = (0, 1) if norm is TokenNorm.BATCH else 2
        torch.testing.assert_close(rows.mean(axis), torch.zeros_like(rows.mean(axis)), rtol=0, atol=1e-5)


def test_prototypes_of_both() -> None:
    head = ibot(num_patch_prototypes=9, in_dim=8, bottleneck_dim=4, scale=Scale.FREE)
    head.normalize_prototypes()
    assert [tuple(weight.shape) for weight in head.prototype_weights()] == [(6, 4), (9, 4)]
    for weight in head.prototype_weights():
        torch.testing.assert_close(weight.norm(dim=1), torch.ones(len(weight)))


def test_other_numbers_for_shared_prototypes_are_a_problem() -> None:
    for head, conf in ((IBOTHead, IBOTHeadConf), (IBOTDistillationHead, IBOTDistillationHeadConf)):
        (problem,) = head.problems(conf(num_prototypes=6, num_patch_prototypes=9, shared=True), FACTS)
        assert problem.path == "num_patch_prototypes"
        assert not list(head.problems(conf(num_prototypes=6, num_patch_prototypes=9), FACTS))
