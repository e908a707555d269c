"""The values that flow: batches, facts, moments."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from facts import FACTS

from ssltyped.types import (
    Batch,
    Moment,
    Problem,
    StepOutput,
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


def test_values_that_flow_cannot_be_changed() -> None:
    for value in (batch(True), StepOutput(loss=torch.zeros(())), FACTS, Problem("a", "b")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, dataclasses.fields(value)[0].name, None)


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


@pytest.mark.parametrize(
    ("step", "epoch", "progress", "after"), [(0, 0, 0.0, 0.125), (3, 1, 0.375, 0.5), (7, 2, 0.875, 1.0)]
)
def test_a_moment_of_a_run(step: int, epoch: int, progress: float, after: float) -> None:
    moment = Moment(step, steps=8, steps_per_epoch=3)
    assert (moment.epoch, moment.progress, moment.progress_after) == (epoch, progress, after)
