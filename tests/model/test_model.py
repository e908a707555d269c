"""Wiring of trunk and heads, on a trunk that counts its passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

import pytest
import torch
from torch import Tensor, nn

from ssltyped.distributed.sync_batch_norm import convert_sync_batchnorm
from ssltyped.losses.teacher import MomentumTeacher
from ssltyped.model.model import Passes, SSLModel
from ssltyped.types import Features, Head, MaskedTrunk, Trunk, named


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


# --- passes, masks and other features -------------------------------------------------------------------------


def test_one_pass_a_view() -> None:
    trunk = _Trunk()
    model = SSLModel(trunk=trunk, heads=[_Head(2.0)], features=["mean"], passes=Passes.VIEW)
    (out,) = model(_views(4, 4, 2))
    assert [shape for shape, _ in trunk.passes] == [(2, 3, 4, 4), (2, 3, 4, 4), (2, 3, 2, 2)]
    assert out[:, 0].tolist() == [0, 2, 20, 22, 40, 42]


class _MaskedTrunk(_Trunk, MaskedTrunk):
    """mean, plus 1000 for an image with a masked patch."""

    def __init__(self) -> None:
        super().__init__()
        self.masks: list[Optional[tuple[int, ...]]] = []

    def forward(self, images: Tensor, features: Sequence[str], mask: Optional[Tensor] = None) -> Features:
        self.masks.append(None if mask is None else tuple(mask.shape))
        found = super().forward(images, features)
        return found if mask is None else [x + 1000.0 * mask.flatten(1).any(1)[:, None] for x in found]


def _mask(*images: bool) -> Tensor:
    return torch.tensor(images).reshape(-1, 1, 1).expand(-1, 2, 2)


def test_masked_views_go_by_themselves() -> None:
    """Views of one size with and without a mask do not share a pass; rows stay in the order of the views."""
    trunk = _MaskedTrunk()
    model = SSLModel(trunk=trunk, heads=[_Head(1.0)], features=["mean"])
    (out,) = model(_views(4, 4, 4, 4), masks=[_mask(True, False), _mask(False, True), None, _mask(False, False)])
    assert trunk.masks == [(4, 2, 2), None, (2, 2, 2)]
    assert out[:, 0].tolist() == [1000, 1, 10, 1011, 20, 21, 30, 31]
    model(_views(4, 4))
    assert trunk.masks[3:] == [None]


def test_masks_are_one_a_view_and_the_trunk_takes_them() -> None:
    with pytest.raises(ValueError, match="_Trunk takes no masks"):
        SSLModel(trunk=_Trunk(), heads=[_Head(1.0)], features=["mean"])(_views(4), masks=[_mask(True, False)])
    with pytest.raises(ValueError, match="zip"):
        SSLModel(trunk=_MaskedTrunk(), heads=[_Head(1.0)], features=["mean"])(_views(4, 4), masks=[None])


def test_other_features_for_one_call() -> None:
    trunk = _Trunk()
    model = SSLModel(trunk=trunk, heads=[_Head(1.0), _Head(3.0)], features=["mean", "twice"])
    assert [out[1, 0].item() for out in model(_views(2), features=["twice"])] == [2.0, 6.0]
    assert [out[1, 0].item() for out in model(_views(2), features=["twice", "mean"])] == [2.0, 3.0]
    assert [out[1, 0].item() for out in model(_views(2))] == [1.0, 6.0]
    bare = SSLModel(trunk=trunk, heads=[], features=["mean"])
    assert [out[1, 0].item() for out in bare(_views(2), features=["twice", "mean"])] == [2.0, 1.0]


class _Two(_Head):
    """x and 10 x."""

    @property
    def out_dims(self) -> Sequence[int]:
        return (3, 3)

    def forward(self, features: Tensor) -> list[Tensor]:  # type: ignore[override]  # several outputs
        return [features * self.factor, features * self.factor * 10]


def test_heads_of_several_outputs_give_them_in_a_row() -> None:
    model = SSLModel(trunk=_Trunk(), heads=[_Head(2.0), _Two(3.0), _Head(5.0)], features=["mean"])
    assert [out[1, 0].item() for out in model(_views(2))] == [2.0, 3.0, 30.0, 5.0]


# --- inputs ---------------------------------------------------------------------------------------------------

PARTS = {"images": 1, "patches": 3}


def test_heads_read_their_input() -> None:
    """Each input goes through the trunk by itself, up to the features that are read of it."""
    trunk = _Trunk()
    model = SSLModel(
        trunk=trunk,
        heads=[_Head(1.0), _Head(2.0), _Head(3.0)],
        features=["mean", "twice", "twice"],
        inputs=["patches", "images", "patches"],
        views_of=PARTS,
    )
    patches, images, twice = model(_views(4, 4, 4, 4))
    assert patches[:, 0].tolist() == [10, 11, 20, 21, 30, 31]
    assert images[:, 0].tolist() == [0, 4]
    assert twice[:, 0].tolist() == [60, 66, 120, 126, 180, 186]
    assert trunk.passes == [((2, 3, 4, 4), ["twice"]), ((6, 3, 4, 4), ["mean", "twice"])]


def test_masks_go_with_their_input() -> None:
    trunk = _MaskedTrunk()
    model = SSLModel(
        trunk=trunk, heads=[_Head(1.0), _Head(1.0)], features=["mean"], inputs=["images", "patches"], views_of=PARTS
    )
    images, patches = model(_views(4, 4, 4, 4), masks=[None, _mask(True, True), None, None])
    assert images[:, 0].tolist() == [0, 1]
    assert patches[:, 0].tolist() == [1010, 1011, 20, 21, 30, 31]


def test_features_of_inputs_without_heads() -> None:
    model = SSLModel(trunk=_Trunk(), heads=[], features=["mean", "twice"], inputs=["images", "patches"], views_of=PARTS)
    mean, twice = model(_views(4, 4, 4, 4))
    assert mean[:, 0].tolist() == [0, 1]
    assert twice[:, 0].tolist() == [20, 22, 40, 42, 60, 62]
    with pytest.raises(ValueError, match="3 inputs for 2 features"):
        SSLModel(
            trunk=_Trunk(), heads=[], features=["mean", "twice"], inputs=["images", "patches", "images"], views_of=PARTS
        )


def test_fewer_views_than_the_inputs_are() -> None:
    model = SSLModel(
        trunk=_Trunk(), heads=[_Head(1.0), _Head(1.0)], features=["mean"], inputs=["images", "patches"], views_of=PARTS
    )
    with pytest.raises(ValueError, match="the inputs images, patches are 4 views; the method shows 2"):
        model(_views(4, 4))


def test_inputs_that_do_not_fit() -> None:
    def error(inputs: list[str], heads: int = 2) -> str:
        with pytest.raises(ValueError, match="the model cannot be wired") as caught:
            SSLModel(trunk=_Trunk(), heads=[_Head(1.0)] * heads, features=["mean"], inputs=inputs, views_of=PARTS)
        return str(caught.value)

    assert "the data makes the inputs images, patches: say in `inputs` which one each head reads" in error([])
    assert "2 inputs for 3 heads" in error(["images", "patches"], heads=3)
    wrong = error(["images", "patchs"])
    assert "no input 'patchs'; did you mean 'patches'" in wrong
    assert "no head reads the input 'patches': the data makes 3 views for it in vain" in wrong
    one = SSLModel(trunk=_Trunk(), heads=[_Head(1.0)], features=["mean"], views_of={"images": 4})
    assert len(one(_views(2, 2, 2, 2))[0]) == 8, "one input need not be named"


# --- frozen parts ---------------------------------------------------------------------------------------------


class _Normed(_Trunk):
    """mean of the images after a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.other = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, images: Tensor, features: Sequence[str]) -> Features:
        return super().forward(self.other(self.norm(images)), features)


def test_a_frozen_module_stays_in_eval_mode_and_takes_no_gradient() -> None:
    model = SSLModel(trunk=_Normed(), heads=[_Head(2.0)], features=["mean"], frozen=["trunk.norm", "heads.0.factor"])
    assert [module.training for name, module in model.named_modules() if "norm" in name] == [False]
    assert model.trunk.get_submodule("other").training
    assert model.eval().train() is model
    assert not model.trunk.get_submodule("norm").training
    (out,) = model(_views(4, 2))
    out.sum().backward()
    learn = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert learn == {"trunk.other.weight", "trunk.other.bias"}
    assert model.trunk.get_buffer("norm.num_batches_tracked").item() == 0
    assert model.trunk.get_buffer("other.num_batches_tracked").item() == 2


def test_a_frozen_batch_norm_is_frozen_after_its_conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Synchronised layers take the place of the others; so they do in a copy of the model."""
    monkeypatch.setattr("ssltyped.distributed.sync_batch_norm._size", lambda _: 2)
    monkeypatch.setattr("ssltyped.distributed.sync_batch_norm._own_group", lambda _: None)
    model = SSLModel(trunk=_Normed(), heads=[_Head(2.0)], features=["mean"], frozen=["trunk.norm"])
    old = model.trunk.get_submodule("norm")
    converted = convert_sync_batchnorm(model, 2)
    assert converted is model
    assert model.trunk.get_submodule("norm") is not old
    assert [model.train().trunk.get_submodule(name).training for name in ("norm", "other")] == [False, True]


def test_a_teacher_of_a_frozen_model_is_a_model_of_its_own() -> None:
    model = SSLModel(trunk=_Normed(), heads=[_Head(2.0)], features=["mean"], frozen=["trunk.norm"])
    teacher = MomentumTeacher(model, batch_statistics=False)
    assert isinstance(teacher.model, SSLModel)
    teacher.model.train()
    assert not teacher.model.trunk.get_submodule("norm").training
    assert model.train().trunk.get_submodule("other").training


def test_names_of_parts() -> None:
    model = SSLModel(trunk=_Normed(), heads=[_Head(2.0)], features=["mean"])
    assert named(model, "trunk.norm") is model.trunk.get_submodule("norm")
    assert named(model, "heads.0.factor") is model.heads[0].factor
    for name in ("", "trunk.nrom", "trunk.norm.running_mean"):
        with pytest.raises(ValueError, match=f"no module and no parameter '{name}'"):
            named(model, name)
    with pytest.raises(ValueError, match=r"'trunk\.nrom'; did you mean 'trunk\.norm'"):
        SSLModel(trunk=_Normed(), heads=[], features=["mean"], frozen=["trunk.nrom"])
