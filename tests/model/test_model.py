"""Wiring of trunk and heads, on a trunk that counts its passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

import pytest
import torch
from torch import Tensor, nn

from ssltyped.distributed.sync_batch_norm import convert_sync_batchnorm
from ssltyped.heads.mlp import MLPHead
from ssltyped.heads.prototypes import PrototypesHead
from ssltyped.losses.teacher import MomentumTeacher
from ssltyped.model.model import Passes, SSLModel
from ssltyped.trunks.resnet import ResNet, Stem
from ssltyped.types import Features, Head, MaskedTrunk, Outputs, Trunk, named


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

    def __init__(self, factor: float, feature: str = "mean", input: Optional[str] = None, in_dim: int = 3) -> None:
        super().__init__(feature=feature, input=input)
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


def _model(*heads: Head, trunk: Optional[Trunk] = None, **settings: object) -> SSLModel:
    """Heads by their number: h0, h1, ..."""
    named_heads = {f"h{number}": head for number, head in enumerate(heads)}
    return SSLModel(trunk=trunk or _Trunk(), heads=named_heads, **settings)  # type: ignore[arg-type]  # by name


def _flat(found: Outputs) -> list[Tensor]:
    return [output for outputs in found.heads.values() for output in outputs]


def test_views_of_equal_size_share_a_pass_and_rows_are_in_view_order() -> None:
    trunk, head = _Trunk(), _Head(2.0)
    out = _model(head, trunk=trunk)(_views(4, 4, 2, 2, 2, 4)).of("h0")
    assert trunk.passes == [((4, 3, 4, 4), ["mean"]), ((6, 3, 2, 2), ["mean"]), ((2, 3, 4, 4), ["mean"])]
    assert out[:, 0].tolist() == [0, 2, 20, 22, 40, 42, 60, 62, 80, 82, 100, 102]
    assert head.calls == 1


def test_heads_read_their_feature() -> None:
    found = _model(_Head(1.0, "mean"), _Head(3.0, "twice"))(_views(2))
    assert [out[:, 0].tolist() for out in _flat(found)] == [[0.0, 1.0], [0.0, 6.0]]
    assert found.features.keys() == {"mean", "twice"}, "of the same pass"
    last = _Head(1.0)
    last.feature = None
    assert _model(last)(_views(2)).of("h0")[1, 0] == 2.0, "the trunk's last one, unless it says so"


def test_only_the_heads_that_are_asked_for_run() -> None:
    trunk, other = _Trunk(), _Head(3.0, "twice")
    found = _model(_Head(1.0), other, trunk=trunk)(_views(2), heads=["h0"])
    assert (list(found.heads), other.calls) == (["h0"], 0)
    assert trunk.passes == [((2, 3, 2, 2), ["mean"])]


def test_a_feature_for_two_heads_is_computed_once() -> None:
    trunk = _Trunk()
    found = _model(_Head(1.0), _Head(3.0), trunk=trunk)(_views(2))
    assert [out[1, 0].item() for out in _flat(found)] == [1.0, 3.0]
    assert trunk.passes == [((2, 3, 2, 2), ["mean"])]


def test_without_heads_there_are_features() -> None:
    found = _model(extra=["mean", "map"])(_views(4, 4))
    assert {name: tuple(x.shape) for name, x in found.features.items()} == {"mean": (4, 3), "map": (4, 3, 4, 4)}
    assert not found.heads


def test_extract_is_flat_and_without_heads() -> None:
    head = _Head(2.0)
    out = _model(head).extract(_views(4)[0], "map")
    assert tuple(out.shape) == (2, 48)
    assert head.calls == 0


def test_parameters_and_state_are_the_parts() -> None:
    model = SSLModel(trunk=_Trunk(), heads={"projector": _Head(2.0), "probe": _Head(1.0)})
    assert list(model.state_dict()) == ["heads.projector.factor", "heads.probe.factor"]
    assert isinstance(model.trunk, _Trunk)


def test_all_mistakes_come_in_one_error() -> None:
    with pytest.raises(
        ValueError, match=r"heads\.h0\.feature: _Trunk has no feature 'maen'; did you mean 'mean'"
    ) as error:
        _model(_Head(1.0, "maen"), _Head(1.0, "twice", in_dim=8))
    assert "heads.h1.in_dim: _Head reads 8, but 'twice' is 3 wide" in str(error.value)
    with pytest.raises(ValueError, match="no feature 'x'; known: map, mean, twice"):
        _model(extra=["x"])
    with pytest.raises(ValueError, match="no feature 'x'; known: map, mean, twice"):
        _model().extract(_views(2)[0], "x")


def test_unpooled_features_of_different_sizes_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"feature 'map' has the shapes \[\(3, 2, 2\), \(3, 4, 4\)\]"):
        _model(extra=["map"])(_views(4, 2))


# --- passes, masks and other features -------------------------------------------------------------------------


def test_one_pass_a_view() -> None:
    trunk = _Trunk()
    out = _model(_Head(2.0), trunk=trunk, passes=Passes.VIEW)(_views(4, 4, 2)).of("h0")
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
    model = _model(_Head(1.0), trunk=trunk)
    masks = [_mask(True, False), _mask(False, True), None, _mask(False, False)]
    out = model(_views(4, 4, 4, 4), masks=masks).of("h0")
    assert trunk.masks == [(4, 2, 2), None, (2, 2, 2)]
    assert out[:, 0].tolist() == [1000, 1, 10, 1011, 20, 21, 30, 31]
    model(_views(4, 4))
    assert trunk.masks[3:] == [None]


def test_masks_are_one_a_view_and_the_trunk_takes_them() -> None:
    with pytest.raises(ValueError, match="_Trunk takes no masks"):
        _model(_Head(1.0))(_views(4), masks=[_mask(True, False)])
    with pytest.raises(ValueError, match="zip"):
        _model(_Head(1.0), trunk=_MaskedTrunk())(_views(4, 4), masks=[None])


def test_another_feature_for_one_call() -> None:
    model = _model(_Head(1.0), _Head(3.0, "twice"))
    assert [out[1, 0].item() for out in _flat(model(_views(2), features={"h0": "twice"}))] == [2.0, 6.0]
    assert [out[1, 0].item() for out in _flat(model(_views(2)))] == [1.0, 6.0]


class _Two(_Head):
    """x and 10 x."""

    @property
    def out_dims(self) -> Sequence[int]:
        return (3, 3)

    def forward(self, features: Tensor) -> list[Tensor]:  # type: ignore[override]  # several outputs
        return [features * self.factor, features * self.factor * 10]


def test_heads_of_several_outputs_give_them_in_a_row() -> None:
    found = _model(_Head(2.0), _Two(3.0), _Head(5.0))(_views(2))
    assert [out[1, 0].item() for out in _flat(found)] == [2.0, 3.0, 30.0, 5.0]
    assert len(found.all_of("h1")) == 2


# --- inputs ---------------------------------------------------------------------------------------------------

PARTS = {"images": 1, "patches": 3}


def test_heads_read_their_input() -> None:
    """Each input goes through the trunk by itself, up to the features that are read of it."""
    trunk = _Trunk()
    heads = (_Head(1.0, "mean", "patches"), _Head(2.0, "twice", "images"), _Head(3.0, "twice", "patches"))
    found = _model(*heads, trunk=trunk, views_of=PARTS)(_views(4, 4, 4, 4))
    patches, images, twice = _flat(found)
    assert set(found.features) == {"images.twice", "patches.mean", "patches.twice"}
    assert patches[:, 0].tolist() == [10, 11, 20, 21, 30, 31]
    assert images[:, 0].tolist() == [0, 4]
    assert twice[:, 0].tolist() == [60, 66, 120, 126, 180, 186]
    assert trunk.passes == [((2, 3, 4, 4), ["twice"]), ((6, 3, 4, 4), ["mean", "twice"])]


def test_masks_go_with_their_input() -> None:
    trunk = _MaskedTrunk()
    model = _model(_Head(1.0, input="images"), _Head(1.0, input="patches"), trunk=trunk, views_of=PARTS)
    images, patches = _flat(model(_views(4, 4, 4, 4), masks=[None, _mask(True, True), None, None]))
    assert images[:, 0].tolist() == [0, 1]
    assert patches[:, 0].tolist() == [1010, 1011, 20, 21, 30, 31]


def test_fewer_views_than_the_inputs_are() -> None:
    model = _model(_Head(1.0, input="images"), _Head(1.0, input="patches"), views_of=PARTS)
    with pytest.raises(ValueError, match="the inputs images, patches are 4 views; the method shows 2"):
        model(_views(4, 4))


def test_inputs_that_do_not_fit() -> None:
    def error(*inputs: Optional[str]) -> str:
        with pytest.raises(ValueError, match="the model cannot be wired") as caught:
            _model(*(_Head(1.0, input=name) for name in inputs), views_of=PARTS)
        return str(caught.value)

    assert "heads.h0.input: the data makes the inputs images, patches: say which one is read" in error(None, "patches")
    wrong = error("images", "patchs")
    assert "heads.h1.input: the data makes no input 'patchs'; did you mean 'patches'" in wrong
    assert "heads: no head reads the input 'patches': the data makes 3 views for it in vain" in wrong
    one = _model(_Head(1.0), views_of={"images": 4})
    assert len(one(_views(2, 2, 2, 2)).of("h0")) == 8, "one input need not be named"


# --- frozen parts ---------------------------------------------------------------------------------------------


class _Normed(_Trunk):
    """mean of the images after a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.other = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, images: Tensor, features: Sequence[str]) -> Features:
        return super().forward(self.other(self.norm(images)), features)


def test_a_frozen_module_stays_in_eval_mode_and_takes_no_gradient() -> None:
    model = _model(_Head(2.0), trunk=_Normed(), frozen=["trunk.norm", "heads.h0.factor"])
    assert [module.training for name, module in model.named_modules() if "norm" in name] == [False]
    assert model.trunk.get_submodule("other").training
    assert model.eval().train() is model
    assert not model.trunk.get_submodule("norm").training
    out = model(_views(4, 2)).of("h0")
    out.sum().backward()
    learn = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert learn == {"trunk.other.weight", "trunk.other.bias"}
    assert model.trunk.get_buffer("norm.num_batches_tracked").item() == 0
    assert model.trunk.get_buffer("other.num_batches_tracked").item() == 2


def test_a_frozen_batch_norm_is_frozen_after_its_conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Synchronised layers take the place of the others; so they do in a copy of the model."""
    monkeypatch.setattr("ssltyped.distributed.sync_batch_norm._size", lambda _: 2)
    monkeypatch.setattr("ssltyped.distributed.sync_batch_norm._own_group", lambda _: None)
    model = _model(_Head(2.0), trunk=_Normed(), frozen=["trunk.norm"])
    old = model.trunk.get_submodule("norm")
    converted = convert_sync_batchnorm(model, 2)
    assert converted is model
    assert model.trunk.get_submodule("norm") is not old
    assert [model.train().trunk.get_submodule(name).training for name in ("norm", "other")] == [False, True]


def test_a_teacher_of_a_frozen_model_is_a_model_of_its_own() -> None:
    model = _model(_Head(2.0), trunk=_Normed(), frozen=["trunk.norm"])
    teacher = MomentumTeacher(model, batch_statistics=False)
    assert isinstance(teacher.model, SSLModel)
    teacher.model.train()
    assert not teacher.model.trunk.get_submodule("norm").training
    assert model.train().trunk.get_submodule("other").training


def test_names_of_parts() -> None:
    model = _model(_Head(2.0), trunk=_Normed())
    assert named(model, "trunk.norm") is model.trunk.get_submodule("norm")
    assert named(model, "heads.h0.factor") is model.heads["h0"].factor
    for name in ("", "trunk.nrom", "trunk.norm.running_mean"):
        with pytest.raises(ValueError, match=f"no module and no parameter '{name}'"):
            named(model, name)
    with pytest.raises(ValueError, match=r"'trunk\.nrom'; did you mean 'trunk\.norm'"):
        _model(trunk=_Normed(), frozen=["trunk.nrom"])


@pytest.mark.parametrize("sizes", [(16, 16), (16, 8)])
def test_apart_every_view_goes_through_trunk_and_heads_alone(sizes: tuple[int, int]) -> None:
    """BatchNorm in train mode tells: the outputs are those of two calls with one view each."""
    torch.manual_seed(0)
    trunk = ResNet(depth=18, width_multiplier=0.0625, stem=Stem.SMALL)
    scores = PrototypesHead(dims=[8, 4], in_dim=32, num_prototypes=[3])
    heads = {"a": MLPHead(dims=[8, 4], in_dim=32, use_bn=True), "b": scores}
    model = SSLModel(trunk=trunk, heads=heads, passes=Passes.APART)
    views = [torch.randn(5, 3, size, size) * (1 + n) for n, size in enumerate(sizes)]
    together = model(views)
    singles = [model([view]) for view in views]
    for name in heads:
        for number, output in enumerate(together.all_of(name)):
            torch.testing.assert_close(output, torch.cat([one.all_of(name)[number] for one in singles]))
    again = model.of_features(together.features, ["a"], 2)["a"][0]
    torch.testing.assert_close(again, together.of("a"))
    jointly = SSLModel(trunk=trunk, heads=heads, passes=Passes.SIZE)(views)
    assert not torch.allclose(jointly.of("a"), together.of("a"))
