"""The vocabulary: derived facts, batches on devices, and the contract that parts of every kind keep."""

from __future__ import annotations

import dataclasses
import inspect

import pytest
import torch
from facts import FACTS
from torch import nn

from ssltyped import types
from ssltyped.config import catalog
from ssltyped.config.show import component
from ssltyped.types import (
    Batch,
    Callback,
    Component,
    Facts,
    Head,
    Loss,
    Problem,
    StepOutput,
    Trunk,
    Update,
    as_named,
    named,
    parameters_of,
)


def batch(label: bool) -> Batch:
    return Batch(
        views=(torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 2, 2)),
        index=torch.tensor([5, 6]),
        label=torch.tensor([0, 1]) if label else None,
    )


@pytest.mark.parametrize("label", [True, False])
def test_a_batch_moves_with_all_that_it_has(label: bool) -> None:
    moved = batch(label).to(torch.device("meta"))
    tensors = [*moved.views, moved.index, *([] if moved.label is None else [moved.label])]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert (moved.label is not None) == label
    assert [tuple(view.shape) for view in moved.views] == [(2, 3, 4, 4), (2, 3, 2, 2)]


def test_parts_are_named_as_a_user_sees_them() -> None:
    module = nn.Module()
    module.model, module.loss = nn.Module(), nn.Module()
    module.model.heads = nn.ModuleDict({"projector": nn.Linear(2, 3)})
    module.loss.teacher = nn.Module()
    module.loss.teacher.model = nn.Linear(2, 3)
    projector = module.model.heads["projector"]
    assert named(module, "heads.projector") is named(module.model, "heads.projector") is projector
    assert named(module, "heads.projector.bias") is projector.bias
    assert named(module, "loss.teacher.model") is module.loss.teacher.model
    assert as_named("model.heads.projector.bias") == "heads.projector.bias"
    assert as_named("loss.teacher.model.bias") == "loss.teacher.model.bias"
    assert [tuple(p.shape) for p in parameters_of(module, "heads")] == [(3, 2), (3,)]
    assert parameters_of(module, "heads.projector.bias") == [projector.bias]
    for name, nearest in (("heads.projecter", "heads.projector"), ("model.heads", ""), ("", "")):
        with pytest.raises(ValueError, match=f"no module and no parameter '{name}'.*{nearest}"):
            named(module, name)


def test_values_that_flow_cannot_be_changed() -> None:
    for value in (batch(True), StepOutput(loss=torch.zeros(())), FACTS, Problem("a", "b")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, dataclasses.fields(value)[0].name, None)


def test_two_outputs_share_no_log() -> None:
    one, other = StepOutput(loss=torch.zeros(())), StepOutput(loss=torch.zeros(()))
    assert one.logs is not other.logs


@pytest.mark.parametrize(
    ("world_size", "ranks_per_node", "batch_size", "accumulation", "num_images", "nodes", "images", "steps"),
    [
        (64, 8, 64, 1, 1281167, 8, 4096, 312),
        (1, 1, 10, 4, 100, 1, 40, 2),
        (2, 2, 50, 1, 100, 1, 100, 1),
        (2, 2, 51, 1, 100, 1, 102, 0),
        (2, 1, 8, 1, None, 2, 16, None),
    ],
)
def test_facts_that_follow_from_others(
    world_size: int,
    ranks_per_node: int,
    batch_size: int,
    accumulation: int,
    num_images: int | None,
    nodes: int,
    images: int,
    steps: int | None,
) -> None:
    facts = dataclasses.replace(
        FACTS,
        world_size=world_size,
        ranks_per_node=ranks_per_node,
        batch_size=batch_size,
        accumulation=accumulation,
        num_images=num_images,
    )
    assert (facts.nodes, facts.global_batch_size, facts.steps_per_epoch) == (nodes, images, steps)


def test_a_problem_reads_as_a_line() -> None:
    assert str(Problem("loss.temperature", "is too high")) == "loss.temperature: is too high"
    assert str(Problem("", "is too high")) == "is too high"


def test_a_part_infers_and_complains_about_nothing_unless_it_says_so() -> None:
    part = Component()
    assert list(part.infer(part, FACTS)) == []
    assert list(part.problems(part, FACTS)) == []


@pytest.mark.parametrize("kind", [Trunk, Head, Loss])
def test_a_kind_of_network_is_abstract(kind: type) -> None:
    assert issubclass(kind, torch.nn.Module)
    with pytest.raises(TypeError, match="abstract"):
        kind()


def test_every_kind_of_part_is_a_component() -> None:
    kinds = [
        value
        for name, value in vars(types).items()
        if inspect.isclass(value) and issubclass(value, Component) and value is not Component
    ]
    assert {kind.__name__ for kind in kinds} >= {
        "Trunk", "Head", "Loss", "Transform", "ViewMaker", "Source", "Optimizer", "Scheduler", "Meter", "Callback",
    }  # fmt: skip


@pytest.mark.parametrize("name", list(catalog.components()))
def test_the_rules_of_a_part_are_class_methods_that_get_the_config(name: str) -> None:
    kind = component(name).kind
    for method in (kind.infer, kind.problems):  # type: ignore[attr-defined]  # a Component
        assert inspect.ismethod(method), "bound to the class, so that super() works in it"
        assert list(inspect.signature(method).parameters) == ["config", "facts"]


def test_a_callback_does_nothing_unless_it_says_so() -> None:
    callback = Callback()
    moments = [name for name in vars(Callback) if name.startswith("on_")]
    assert moments == [
        "on_train_start", "on_step_start", "on_loss", "on_step_end", "on_metrics", "on_epoch_end", "on_train_end",
    ]  # fmt: skip
    for moment in moments:
        arguments = [None] * (len(inspect.signature(getattr(callback, moment)).parameters))
        assert getattr(callback, moment)(*arguments) is None
    assert callback.every_rank is False


def test_the_two_paces_of_a_schedule() -> None:
    assert [member.value for member in Update] == ["step", "epoch"]
    assert isinstance(FACTS, Facts)
