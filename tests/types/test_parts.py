"""The contract that parts of every kind keep."""

from __future__ import annotations

import dataclasses
import inspect
from types import SimpleNamespace
from typing import Optional

import pytest
import torch
from facts import FACTS

from ssltyped import types
from ssltyped.config import catalog
from ssltyped.config.show import component
from ssltyped.types import (
    Batch,
    Component,
    Facts,
    Head,
    Loss,
    Model,
    Moment,
    StepOutput,
    Trunk,
    Update,
)


def test_two_outputs_share_no_log() -> None:
    one, other = StepOutput(loss=torch.zeros(())), StepOutput(loss=torch.zeros(()))
    assert one.logs is not other.logs


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


def test_the_two_paces_of_a_schedule() -> None:
    assert [member.value for member in Update] == ["step", "epoch"]
    assert isinstance(FACTS, Facts)


class Hooked(Loss):
    """For classes whose methods are nearly hooks."""

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("wants", "widths", "message"),
    [
        (Hooked.outputs, (8,), ""),
        (Hooked.outputs, (8, 6), "head: needs a head with exactly one output; top has 2"),
        ((2, None, "scores"), (8,), "head: needs a head with scores; top has 1"),
        ((2, None, "scores"), (8, 6, 6), ""),
        ((2, 2, "a pair"), (8, 6, 6), "head: needs a head with a pair; top has 3"),
        (None, (8, 6), ""),
        (Hooked.outputs, (), ""),
    ],
)
def test_the_outputs_of_the_head_that_a_method_reads(
    wants: Optional[tuple[int, Optional[int], str]], widths: tuple[int, ...], message: str
) -> None:
    kind: type[Loss] = type("Wanting", (Hooked,), {"outputs": wants})
    facts = dataclasses.replace(FACTS, heads=("top",), output_dims={"top": widths} if widths else {})
    assert [str(problem) for problem in kind.problems(SimpleNamespace(head="top"), facts)] == (
        [message] if message else []
    )


@pytest.mark.parametrize("name", ["after_updates", "after_update", "on_epoch_begin", "updat", "setups", "infers"])
def test_a_hook_that_nobody_calls_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=f"Wrong.{name} is no hook and would never be called; "):
        type("Wrong", (Hooked,), {name: lambda self: None})


def test_other_methods_are_a_parts_own() -> None:
    made = type("Right", (Hooked,), {"contrast": lambda self: None, "_on": lambda self: None})
    assert issubclass(made, Loss)
