"""Where a run is, in images: what of a step's number survives another batch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from facts import FACTS

from ssltyped.engine.position import Position

RUN = Position(step=0, steps_per_epoch=5, global_batch_size=8, num_images=43)


def at(step: int, batch: int, images: int = 43) -> Position:
    return Position(step, images // batch, batch, images)


def test_passes_and_images() -> None:
    here = at(13, 8)
    assert (here.epoch, here.images) == (2, 2 * 43 + 3 * 8)


@pytest.mark.parametrize(
    ("before", "batch", "step"),
    [
        (at(10, 8), 16, 4),  # two passes are two passes: 5 steps each before, 2 now
        (at(10, 8), 4, 20),
        (at(12, 8), 4, 24),  # 16 images into the third pass
        (at(13, 8), 16, 5),  # 24 images into it: one step of 16 is done, 8 images are seen again
        (at(14, 8), 16, 6),  # 32 of 43 images: all the steps that this pass has now
        (at(3, 8), 43, 0),
        (at(7, 8), 8, 7),
    ],
)
def test_no_image_is_left_out_and_less_than_a_step_is_done_again(before: Position, batch: int, step: int) -> None:
    run = at(0, batch)
    here = before.carried_to(run)
    assert here.step == step
    assert -batch < before.images - here.images < batch, "or the rest of a pass, which is no step now"
    assert before.is_counted_as(run) == (batch == 8)


def test_saved_and_read(tmp_path: Path) -> None:
    here = at(7, 8)
    torch.save({"step": 7, "position": here.to_state(), "module": torch.zeros(3)}, tmp_path / "state.pt")
    assert Position.of_checkpoint(tmp_path, at(0, 4)) == here
    torch.save({"step": 7}, tmp_path / "state.pt")
    assert Position.of_checkpoint(tmp_path, at(0, 4)) == at(7, 4), "one without counts as this run does"


@pytest.mark.parametrize(
    "wrong", [{"x": 1}, {**at(7, 8).to_state(), "steps_per_epoch": 0}, {**at(7, 8).to_state(), "step": "7"}]
)
def test_a_position_that_is_none_counts_as_the_run_does(wrong: dict[str, object]) -> None:
    assert Position.of_state({"step": 7, "position": wrong}, at(0, 4)) == at(7, 4)


def test_the_end_of_a_run_counts_the_batches_of_all_ranks() -> None:
    """Also where another number of ranks looks at it, as a replay in one process does."""
    facts = dataclasses.replace(FACTS, world_size=4, batch_size=2, accumulation=1, num_images=43)
    assert Position.at_end(12, facts) == Position(12, 5, 8, 43)
    unknown = dataclasses.replace(facts, num_images=None)
    assert Position.at_end(12, unknown) == Position(12, 12, 8, 96)
