"""Cases of two ranks: each rank has its own part, and what happens to one that dies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from pydantic import JsonValue

from ssltyped import distributed
from tools.golden.arrays import Arrays, Case, Tolerance
from tools.golden.ranks import check_on_ranks, failure


def case(number: int) -> Case:
    ranks: dict[str, JsonValue] = {f"rank{rank}": {"x": {"value": 10.0 * number + rank}} for rank in range(2)}
    return Case(f"case{number}", "loss", "any", {}, ranks, ranks, Tolerance(0, 0), world_size=2)


def summed(case: Case, arrays: Arrays) -> list[str]:
    """The sum over ranks of what each has; the second rank ends at the second case."""
    if distributed.rank() == 1 and case.id == "case2":
        os._exit(1)
    value = arrays.tree(case.inputs["x"])
    assert isinstance(value, float)
    total = 0.0 if case.id == "case2" else float(distributed.all_reduce_sum(torch.tensor(value)))
    return [f"{distributed.rank()} of {distributed.world_size()}: {total}"]


@pytest.mark.usefixtures("fork_server")
def test_ranks_work_on_their_parts_together_and_one_that_dies_fails_what_is_left(tmp_path: Path) -> None:
    assert check_on_ranks([case(1), case(2)], tmp_path, summed) == {
        "case1": ["rank 0: 0 of 2: 21.0", "rank 1: 1 of 2: 21.0"],
        "case2": ["rank 0: 0 of 2: 0.0", "rank 1: its process ended before it"],
    }


def test_an_error_is_one_line_with_its_place() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        1 / 0  # noqa: B018
    assert failure(caught.value).startswith("ZeroDivisionError: division by zero (test_ranks.py:")
