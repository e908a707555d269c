"""One pass for what several methods ask of the same views: of trunk and heads, in the order of asking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Optional

import pytest
import torch
from losses.proofs import LinearModel, PatchModel, waves
from torch import Tensor

from ssltyped.heads.mlp import MLPHead
from ssltyped.losses.shared_pass import SharedPass, module_of
from ssltyped.model.model import SSLModel
from ssltyped.trunks.resnet import ResNet, Stem
from ssltyped.types import Outputs


class Counted(MLPHead):
    """Counts how often it runs, and on how many rows."""

    def forward(self, features: Tensor) -> Tensor:
        self.__dict__.setdefault("rows", []).append(len(features))
        return super().forward(features)


def model_of(**features: str) -> SSLModel:
    trunk = ResNet(depth=18, width_multiplier=0.0625, stem=Stem.SMALL)
    heads = {n: Counted(dims=[4], in_dim=trunk.feature_dims[f], feature=f) for n, f in features.items()}
    return SSLModel(trunk=trunk, heads=heads)


def rows_of(model: SSLModel, head: str) -> list[int]:
    found: list[int] = model.heads[head].__dict__.get("rows", [])
    return found


def test_a_head_runs_once_and_only_where_it_is_asked_for() -> None:
    """Also with BatchNorm in it, whose statistics a pass that nobody asked for would move."""
    model = model_of(a="flatten", b="flatten")
    passes: list[object] = []
    model.trunk.register_forward_hook(lambda module, views, found: passes.append(found))
    shared = SharedPass(model)
    views = [torch.randn(3, 3, 16, 16) for _ in range(2)]
    first = shared(views, heads=["a"])
    assert (len(passes), rows_of(model, "a"), rows_of(model, "b")) == (1, [6], [])
    second = shared(views, heads=["b"])
    torch.testing.assert_close(second.of("a"), first.of("a"))
    assert shared(views, heads=["a", "b"]).of("b") is second.of("b")
    assert (len(passes), rows_of(model, "a"), rows_of(model, "b")) == (1, [6], [6]), "the trunk ran once"
    shared(views[:1], heads=["b"])
    assert (len(passes), rows_of(model, "a"), rows_of(model, "b")) == (2, [6], [6, 3]), "of other views b alone"


def test_another_feature_of_the_same_views_is_a_pass_of_its_own() -> None:
    model = model_of(a="flatten", b="res5avg")
    plain = {name: model([view], heads=[name]).of(name) for name, view in (("a", torch.ones(2, 3, 8, 8)),)}
    shared, view = SharedPass(model), torch.ones(2, 3, 8, 8)
    assert list(shared([view], heads=["a"]).heads) == ["a"]
    assert list(shared([view], heads=["b"]).heads) == ["a", "b"]
    assert plain["a"].shape == shared([view], heads=["a"]).of("a").shape


def test_within_another_and_all_heads_at_once() -> None:
    model, view = model_of(a="flatten", b="flatten"), torch.ones(2, 3, 8, 8)
    outer = SharedPass(model)
    inner = SharedPass(outer)
    assert inner([view], heads=["a"]).of("a") is outer([view], heads=["a"]).of("a")
    assert set(inner([view]).heads) == {"a", "b"}, "who names no head gets all"
    with pytest.raises(ValueError, match="there is no output of a head 'c'; there are a"):
        inner([view], heads=["c"]).of("c")


def test_what_a_call_has_given_is_not_asked_for_again() -> None:
    model = LinearModel(apart=True, scored=(3,))
    shared = SharedPass(model)
    views = (waves(4, 5, 1, 1), waves(4, 5, 1, 1))
    shared(views, heads=["0"])
    assert shared(views, heads=["0"]).of("0").shape == shared(views, heads=["0", "1"]).of("0").shape
    assert len(model.calls) == 1


def test_masks_and_other_features_are_passes_of_their_own() -> None:
    model = PatchModel()
    shared = SharedPass(model)
    views = (waves(4, 5, 2, 2),)
    masks = (torch.zeros(4, 2, 2, dtype=torch.bool),)
    shared(views, heads=["head"])
    shared(views, masks=masks, heads=["head"])
    assert len(shared(views, heads=["head"], features={"head": "lastCLS"}).all_of("head")) == 1
    assert len(model.calls) == 3


def test_the_module_behind_it() -> None:
    model = LinearModel()
    assert module_of(SharedPass(SharedPass(model))) is module_of(model) is model


class Echo(torch.nn.Module):
    """Gives what it is shown, and counts how often."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.calls = torch.nn.Parameter(torch.ones(())), 0

    def forward(
        self,
        views: Sequence[Tensor],
        *,
        masks: Sequence[Optional[Tensor]] = (),
        heads: Optional[Sequence[str]] = None,
        features: Mapping[str, str] = MappingProxyType({}),
    ) -> Outputs:
        self.calls += 1
        return Outputs({"echo": (self.scale * torch.cat(list(views)),)})


def test_views_that_are_gone_are_not_taken_for_others() -> None:
    """A tensor that is made in a step and dropped may leave its place in memory to the next one."""
    shared = SharedPass(Echo())
    for number in range(50):
        assert float(shared([torch.full((1,), float(number))], heads=["echo"]).of("echo").detach()) == number


def test_a_pass_without_gradient_is_not_shared_with_one_that_needs_it() -> None:
    model, view = Echo(), torch.ones(1)
    shared = SharedPass(model)
    with torch.no_grad():
        assert not shared([view], heads=["echo"]).of("echo").requires_grad
    assert shared([view], heads=["echo"]).of("echo").requires_grad
    assert shared([view], heads=["echo"]).of("echo").requires_grad
    assert model.calls == 2
