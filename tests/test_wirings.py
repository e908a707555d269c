"""The ways in which trunk, heads, features and inputs are wired, each from end to end, and their mistakes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from methods import METHODS, RESNET, crops, jigsaw, method, pirl, towers
from tiny import TORCHRUN
from torch import Tensor, nn

from ssltyped.cli.plan import plan
from ssltyped.config import ConfigError, build, replaced
from ssltyped.experiment import Experiment
from ssltyped.heads.mlp import EvalMLPHeadConf, MLPHeadConf
from ssltyped.heads.plumbing import HeadSequenceConf, PoolHead, PoolHeadConf
from ssltyped.launch import Run, launch
from ssltyped.losses.npid import Contrast, MemoryBankLossConf
from ssltyped.losses.simclr import SimCLRLossConf
from ssltyped.losses.supervised import CrossEntropyLossConf
from ssltyped.model.freeze import FreezeConf
from ssltyped.model.model import Passes, SSLModel
from ssltyped.resolution import resolve_experiment
from ssltyped.transforms.views import SeveralInputsConf
from ssltyped.types import Head, Outputs


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)


def linear(feature: str, size: int, channels: int) -> Head:
    """A linear evaluation: pooled to size x size, normalized by channel, then a linear layer to the 4 classes."""
    pool = PoolHeadConf(size=size, flatten=False)
    return HeadSequenceConf(heads=[pool, EvalMLPHeadConf(dims=[4], in_channels=channels)], feature=feature)


LINEAR = method(
    views=crops(1),
    heads={"res3": linear("res3", 2, 8), "res5": linear("res5", 1, 32)},
    loss=CrossEntropyLossConf(heads=["res3", "res5"]),
    fields={"freeze": [FreezeConf(parts=["trunk"])]},
)
PIRL = method(
    views=SeveralInputsConf(names=["images", "patches"], views=[crops(1), jigsaw()]),
    heads={
        "top": HeadSequenceConf(heads=[PoolHeadConf(size=1), MLPHeadConf(dims=[8])], feature="res5", input="images"),
        "deep": HeadSequenceConf(heads=[PoolHeadConf(size=2), MLPHeadConf(dims=[8])], feature="res4", input="images"),
        "patches": HeadSequenceConf(heads=[PoolHeadConf(size=1), towers(9, 8)], feature="res3", input="patches"),
    },
    loss=MemoryBankLossConf(
        heads=["top", "deep", "patches"],
        num_negatives=6,
        loss_weights=[0.5, 0.25, 0.25],
        contrast=Contrast.INFO_NCE,
    ),
)
SINGLE = method(views=crops(2), heads={"projector": MLPHeadConf(dims=[16, 8])}, loss=SimCLRLossConf())
MULTITASK = method(
    views=crops(1),
    heads={"four": MLPHeadConf(dims=[4]), "six": MLPHeadConf(dims=[6])},
    loss=CrossEntropyLossConf(heads=["four", "six"]),
)
WIRINGS: Mapping[str, tuple[Experiment, list[tuple[int, ...]]]] = {
    "one output": (SINGLE, [(4, 8)]),
    "several heads on one feature": (MULTITASK, [(2, 4), (2, 6)]),
    "a feature a head, trunk frozen": (LINEAR, [(2, 4), (2, 4)]),
    "several inputs": (PIRL, [(2, 8), (2, 8), (2, 8)]),
    "one feature for several inputs": (pirl(), [(2, 8), (2, 8), (2, 8)]),
    "several outputs of a head": (METHODS["swav"], [(8, 8), (8, 6), (8, 5)]),
    "crops of several sizes": (METHODS["multicrop_simclr"], [(8, 8)]),
}


def start(asked: Experiment) -> SSLModel:
    """The model of a recipe before its first step."""
    resolution = resolve_experiment(asked)
    resolved = resolution.config
    torch.manual_seed(resolved.seed)
    built = build(resolved)
    return SSLModel(trunk=built.trunk, heads=built.heads, views_of=resolution.facts.inputs)


def flat(found: Outputs) -> list[Tensor]:
    """All outputs in a row."""
    return [output for outputs in found.heads.values() for output in outputs]


def images(asked: Experiment, count: int = 2) -> list[Tensor]:
    """Views as the recipe's data makes them, of noise."""
    generator = torch.Generator().manual_seed(5)
    sizes = resolve_experiment(asked).facts.crop_sizes
    return [torch.randn(count, 3, size, size, generator=generator) for size in sizes]


def run(asked: Experiment, folder: Path, steps: int = 2) -> Run:
    return launch(replaced(asked, {"output": folder, "steps": steps}))


def moved(before: SSLModel, after: SSLModel) -> set[str]:
    """The weights and statistics that differ, by their part."""
    theirs = after.state_dict()
    names = [name for name, value in before.state_dict().items() if not torch.equal(value, theirs[name])]
    return {".".join(name.split(".")[:2]) if name.startswith("heads") else "trunk" for name in names}


@pytest.mark.parametrize("name", WIRINGS)
def test_trains(name: str, tmp_path: Path) -> None:
    """Each head gets a gradient, outputs are as wide as they are said to be, the loss is finite."""
    asked, shapes = WIRINGS[name]
    ended = run(asked, tmp_path)
    assert math.isfinite(ended.metrics["loss"])
    with torch.no_grad():
        outputs = flat(ended.model.eval()(images(asked)))
    assert [tuple(output.shape) for output in outputs] == shapes
    heads = {f"heads.{name}" for name in asked.heads}
    trunk = set() if asked.freeze and asked.freeze[0].parts == ["trunk"] else {"trunk"}
    assert moved(start(asked), ended.model) == heads | trunk
    assert plan(asked, name)


def test_what_each_head_reads(tmp_path: Path) -> None:
    """PIRL by hand: two heads on the image, one on the nine patches, each at its depth."""
    model = run(PIRL, tmp_path).model.eval()
    views = images(PIRL)
    with torch.no_grad():
        outputs = flat(model(views))
        res5, res4 = model.trunk(views[0], ["res5", "res4"])
        patches = [model.trunk(view, ["res3"])[0].mean((2, 3)) for view in views[1:]]
        weights = dict(model.named_parameters())
        wanted = []
        for name, row in {
            "top": res5.mean((2, 3)),
            "deep": nn.functional.adaptive_avg_pool2d(res4, 2).flatten(1),
            "patches": torch.cat(patches, dim=1),
        }.items():
            path = f"heads.{name}.heads.1." + ("heads.1." if name == "patches" else "") + "layers.0."
            wanted.append(row @ weights[path + "weight"].T + weights[path + "bias"])
    for output, by_hand in zip(outputs, wanted, strict=True):
        torch.testing.assert_close(output, by_hand, rtol=1e-4, atol=1e-5)


def test_a_frozen_trunk_is_bitwise_what_it_was(tmp_path: Path) -> None:
    """Weights and statistics; without the freeze both move."""
    names = {name for name in start(LINEAR).state_dict() if name.startswith("trunk")}
    assert any("running_mean" in name for name in names)
    before, after = start(LINEAR).state_dict(), run(LINEAR, tmp_path / "frozen").model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in names)
    assert not all(torch.equal(before[name], after[name]) for name in before.keys() - names)
    free = run(replaced(LINEAR, {"freeze": []}), tmp_path / "free").model.state_dict()
    assert not [name for name in names if torch.equal(before[name], free[name])]


@pytest.mark.parametrize(("steps", "is_there"), [(2, True), (3, True), (4, False)])
def test_frozen_for_an_epoch(steps: int, is_there: bool, tmp_path: Path) -> None:
    """One epoch is 3 steps: then it moves, also with weight decay and momentum before."""
    asked = replaced(
        SINGLE, {"freeze": [FreezeConf(parts=["heads.projector.layers.0", "trunk.conv1.weight"], epochs=1)]}
    )
    resolution = resolve_experiment(asked)
    assert resolution.config.freeze[0].steps == 3
    assert "1 epochs x 3 steps an epoch" in plan(asked, "frozen")
    ended = run(asked, tmp_path, steps).model.state_dict()
    before = start(asked).state_dict()
    for name in ("heads.projector.layers.0.weight", "heads.projector.layers.0.bias", "trunk.conv1.weight"):
        assert torch.equal(before[name], ended[name]) is is_there
    assert not torch.equal(before["trunk.layer1.0.conv1.weight"], ended["trunk.layer1.0.conv1.weight"])


def test_passes_by_size_and_by_view_say_the_same(tmp_path: Path) -> None:
    """In eval mode; in training BatchNorm sees other batches, so that the weights differ."""
    asked = METHODS["multicrop_simclr"]
    ended = {passes: run(replaced(asked, {"passes": passes}), tmp_path / passes.value).model for passes in Passes}
    views = images(asked)
    by_size = ended[Passes.SIZE].eval()
    by_view = SSLModel(trunk=by_size.trunk, heads=dict(by_size.heads), passes=Passes.VIEW).eval()  # type: ignore[arg-type]  # a ModuleDict of heads
    with torch.no_grad():
        torch.testing.assert_close(by_view(views).of("head"), by_size(views).of("head"), rtol=1e-5, atol=1e-6)
    assert moved(ended[Passes.SIZE], ended[Passes.VIEW]) == {"trunk", "heads.head"}


def test_features_of_a_frozen_trunk_are_pooled() -> None:
    """No training: a trunk and a pooling for each feature, as features are extracted."""
    trunk = build(RESNET)
    heads = {
        "a": PoolHead(size=2, in_dim=8, feature="res3"),
        "b": PoolHead(size=1, in_dim=16, feature="res4"),
        "c": PoolHead(size=1, in_dim=32, flatten=False, feature="res5"),
    }
    model = SSLModel(trunk=trunk, heads=heads, frozen=["trunk"])
    x = torch.randn(3, 3, 16, 16)
    assert not any(module.training for module in trunk.modules())
    outputs = flat(model([x]))
    assert [tuple(output.shape) for output in outputs] == [(3, 32), (3, 16), (3, 32, 1, 1)]
    res3, res4, res5 = trunk(x, ["res3", "res4", "res5"])
    by_hand = torch.stack([res3[:, :, i : i + 4, j : j + 4].mean((2, 3)) for i in (0, 4) for j in (0, 4)], dim=2)
    torch.testing.assert_close(outputs[0], by_hand.flatten(1))
    torch.testing.assert_close(outputs[1], res4.mean((2, 3)))
    torch.testing.assert_close(outputs[2][:, :, 0, 0], res5.mean((2, 3)))
    assert not any(output.requires_grad for output in outputs)


WRONG: Mapping[str, tuple[Experiment, dict[str, object], str]] = {
    "inputs unsaid": (
        PIRL,
        {"heads.top.input": None},
        "heads.top.input: the data makes the inputs images, patches: say which one is read",
    ),
    "unknown input": (
        PIRL,
        {"heads.patches.input": "patch"},
        "no input 'patch'; did you mean 'patches'",
    ),
    "unread input": (
        PIRL,
        {"heads.patches.input": "images"},
        "heads: no head reads the input 'patches': the data makes 9 views for it",
    ),
    "unknown feature": (
        LINEAR,
        {"heads.res5.feature": "res6"},
        "heads.res5.feature: the trunk has no feature 'res6'; did you mean",
    ),
    "a name that a dict of modules has itself": (
        SINGLE,
        {"heads": {"values": MLPHeadConf(dims=[8])}},
        "heads.values: a head's name is made of letters, digits and _; ModuleDict's are taken",
    ),
    "one of several heads": (
        MULTITASK,
        {"loss.heads": None},
        "loss.heads: the model has the heads four, six: say which of them CrossEntropyLoss reads",
    ),
    "the whole model frozen": (
        SINGLE,
        {"freeze": [FreezeConf(parts=["model"])]},
        "freeze.0.parts.0: there is no module and no parameter 'model'",
    ),
    "a name that is none": (
        SINGLE,
        {"heads": {"my head": MLPHeadConf(dims=[8])}},
        "heads.my head: a head's name is made of letters, digits and _",
    ),
    "in a row": (
        LINEAR,
        {"heads.res5.heads.1.feature": "res4"},
        "heads.res5.heads.1.feature: has no effect in a row: give feature of the row itself",
    ),
    "width": (
        SINGLE,
        {"heads.projector.in_dim": 7},
        "heads.projector.in_dim: got 7, but 32 follows from the rest: width of the trunk's",
    ),
    "width in a chain": (LINEAR, {"heads.res3.heads.1.in_dim": 9}, "heads.res3.heads.1.in_dim: got 9, but 32 follows"),
    "channels": (LINEAR, {"heads.res3.heads.1.in_channels": 5}, "in_channels: got 5, which does not divide in_dim 32"),
    "outputs": (
        PIRL,
        {"loss.loss_weights": [1.0, 1.0]},
        "has 2 values for the heads top, deep, patches: one each",
    ),
    "towers": (
        PIRL,
        {"heads.patches.heads.1.heads.0.num_towers": 4},
        "heads.patches.heads.1.heads.0.num_towers: got 4; the views of an image are 1 of 'images', 9 of 'patches'",
    ),
    "frozen part": (
        SINGLE,
        {"freeze": [FreezeConf(parts=["trunk.layer9"], steps=2)]},
        "freeze.0.parts.0: there is no module and no parameter 'trunk.layer9'; did you mean 'trunk.layer",
    ),
    "nothing frozen": (SINGLE, {"freeze": [FreezeConf(parts=[])]}, "freeze.0.parts: is empty"),
    "frozen twice as long": (
        SINGLE,
        {"freeze": [FreezeConf(parts=["trunk"], epochs=1, steps=5)]},
        "freeze.0.steps: got 5, but 3 follows from the rest",
    ),
    "patches": (
        METHODS["ibot"],
        {"data.train.views.patch_size": 8},
        "data.train.views.patch_size: got 8, but the trunk's patches are 4 pixels wide",
    ),
    "names": (
        PIRL,
        {"data.train.views.names": ["images"]},
        "data.train.views: names are ['images'] for 2 view makers",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_mistakes_are_found_before_a_run(name: str) -> None:
    asked, fields, message = WRONG[name]
    with pytest.raises(ConfigError) as error:
        plan(replaced(asked, fields), name)
    assert message in str(error.value)


def test_all_mistakes_come_at_once() -> None:
    fields = {"heads.deep.feature": "res6", "heads.patches.input": "patchs", "loss.memory_head": "tip"}
    with pytest.raises(ConfigError) as error:
        plan(replaced(PIRL, fields), "wrong")
    assert [problem.path for problem in error.value.problems] == [
        "heads.deep.feature",
        "heads.patches.input",
        "heads",
        "loss.memory_head",
    ]


def test_features_of_the_same_pass_come_with_the_outputs() -> None:
    """By name; with several inputs behind the name of the input, and beside those that heads read."""
    model, views = start(PIRL), images(PIRL)
    found = model(views)
    assert {name: tuple(x.shape[:2]) for name, x in found.features.items()} == {
        "images.res5": (2, 32),
        "images.res4": (2, 16),
        "patches.res3": (18, 8),
    }
    assert list(model(views, heads=["deep"]).features) == ["images.res4"], "only what is read is computed"
    single = resolve_experiment(SINGLE).config
    watched = SSLModel(trunk=build(single.trunk), heads=build(single).heads, extra=["res3"])
    assert list(watched(images(SINGLE)).features) == ["flatten", "res3"]
