"""The helper of the distributed tests itself."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from ranks import RankError, run_on_ranks


def _rank_and_first_random_number(offset: int) -> tuple[int, int, float]:
    return dist.get_rank() + offset, dist.get_world_size(), float(torch.rand(()))


def _fail_on_rank_1() -> None:
    if dist.get_rank() == 1:
        raise KeyError("this is rank 1")
    dist.barrier()


def test_results_come_in_rank_order_with_the_same_seed() -> None:
    (first, second) = run_on_ranks(_rank_and_first_random_number, 2, offset=5)
    assert (first[:2], second[:2]) == ((5, 2), (6, 2))
    assert first[2] == second[2] == run_on_ranks(_rank_and_first_random_number, 2, 0)[0][2]


def test_an_error_shows_the_traceback_and_the_next_call_works() -> None:
    with pytest.raises(RankError, match=r"rank 1:[\s\S]*_fail_on_rank_1[\s\S]*this is rank 1"):
        run_on_ranks(_fail_on_rank_1, 2)
    assert [result[0] for result in run_on_ranks(_rank_and_first_random_number, 2, 0)] == [0, 1]
