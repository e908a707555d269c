"""Wiring of trunk and heads, on a trunk that counts its passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

import pytest
import torch
from torch import Tensor, nn

from ssltyped.model import SSLModel
from ssltyped.types import Features, Head, Trunk


class _Trunk(Trunk):
    """mean: the channels' means (B, C); twice: twice that; map: the images themselves (B, C, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.passes: list[tuple[tuple[int, ...], list[str]]] = []

    @property
    def feature_dims(self) -> Mapping[str, int]:
        return {"map": 3, "mean": 3, "twice": 3}

    def forward(self, images: Tensor, features: Sequence[str]) -> Features:
        self.passes.append((tuple(images.shape), list(features)))
        known = {"map": images, "mean": images.mean((2, 3)), "twice": 2 * images.mean((2, 3))}
        return [known[name] for name in features]


class _Head(Head):
    """x times a number."""

    def __init__(self, factor: float, in_dim: Optional[int] = 3) -> None:
        super().__init__()
        self.in_dim = in_dim
        self.factor = nn.Parameter(torch.tensor(factor))
        self.calls = 0

    @property
    def out_dim(self) -> int:
        return 3

    def forward(self, features: Tensor) -> Tensor:
        self.calls += 1
        return features * self.factor


def _views(*sizes: int) -> list[Tensor]:
    """View v holds 10 v + the image's number in every pixel."""
    return [(10.0 * v + torch.arange(2.0)).reshape(2, 1, 1, 1).expand(2, 3, s, s) for v, s in enumerate(sizes)]


def test_views_of_equal_size_share_a_pass_and_rows_are_in_view_order() -> None:
    trunk, head = _Trunk(), _Head(2.0)
    (out,) = SSLModel(trunk=trunk, heads=[head], features=["mean"])(_views(4, 4, 2, 2, 2, 4))
    assert trunk.passes == [((4, 3, 4, 4), ["mean"]), ((6, 3, 2, 2), ["mean"]), ((2, 3, 4, 4), ["mean"])]
    assert out[:, 0].tolist() == [0, 2, 20, 22, 40, 42, 60, 62, 80, 82, 100, 102]
    assert head.calls == 1


@pytest.mark.parametrize(
    "features, factors", [(["mean"], [1.0, 3.0]), (["mean", "twice"], [1.0, 6.0]), (["twice", "mean"], [2.0, 3.0])]
)
def test_heads_read_their_feature_or_the_only_one(features: list[str], factors: list[float]) -> None:
    model = SSLModel(trunk=_Trunk(), heads=[_Head(1.0), _Head(3.0)], features=features)
    for out, factor in zip(model(_views(2)), factors, strict=True):
        assert out[:, 0].tolist() == [0.0, factor]


def test_a_feature_for_two_heads_is_computed_once() -> None:
    trunk = _Trunk()
    model = SSLModel(trunk=trunk, heads=[_Head(1.0), _Head(3.0)], features=["mean", "mean"])
    assert [out[1, 0].item() for out in model(_views(2))] == [1.0, 3.0]
    assert trunk.passes == [((2, 3, 2, 2), ["mean"])]


def test_without_heads_the_features_are_the_output() -> None:
    mean, images = SSLModel(trunk=_Trunk(), heads=[], features=["mean", "map"])(_views(4, 4))
    assert (tuple(mean.shape), tuple(images.shape)) == ((4, 3), (4, 3, 4, 4))


def test_extract_is_flat_and_without_heads() -> None:
    head = _Head(2.0)
    out = SSLModel(trunk=_Trunk(), heads=[head], features=["mean"]).extract(_views(4)[0], "map")
    assert tuple(out.shape) == (2, 48)
    assert head.calls == 0


def test_parameters_and_state_are_the_parts() -> None:
    model = SSLModel(trunk=_Trunk(), heads=[_Head(2.0), _Head(1.0)], features=["mean"])
    assert list(model.state_dict()) == ["heads.0.factor", "heads.1.factor"]
    assert isinstance(model.trunk, _Trunk)


def test_all_mistakes_come_in_one_error() -> None:
    with pytest.raises(ValueError, match="no feature 'maen'; did you mean 'mean'") as error:
        SSLModel(trunk=_Trunk(), heads=[_Head(1.0), _Head(1.0, in_dim=8)], features=["maen", "twice"])
    assert "head 1 (_Head) has in_dim 8, but 'twice' is 3 wide" in str(error.value)
    with pytest.raises(ValueError, match="2 features for 3 heads"):
        SSLModel(trunk=_Trunk(), heads=[_Head(1.0)] * 3, features=["mean", "twice"])
    with pytest.raises(ValueError, match="no feature is asked for; known: map, mean, twice"):
        SSLModel(trunk=_Trunk(), heads=[_Head(1.0)], features=[])
    with pytest.raises(ValueError, match="no feature 'x'; known: map, mean, twice"):
        SSLModel(trunk=_Trunk(), heads=[], features=["mean"]).extract(_views(2)[0], "x")


def test_unpooled_features_of_different_sizes_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"feature 'map' has the shapes \[\(3, 2, 2\), \(3, 4, 4\)\]"):
        SSLModel(trunk=_Trunk(), heads=[], features=["map"])(_views(4, 2))
