import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Int64
from scipy import stats

from ssltyped.data import sampler
from ssltyped.data.sampler import Sampler, permute, random_of


@settings(max_examples=120, deadline=None)
@given(n=st.integers(1, 5000), seed=st.integers(-(2**63), 2**64), epoch=st.integers(0, 10**6))
def test_a_bijection_of_every_size(n: int, seed: int, epoch: int) -> None:
    assert np.array_equal(np.sort(permute(np.arange(n), n, seed, epoch)), np.arange(n))


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 2**62), seed=st.integers(0, 2**64 - 1), data=st.data())
def test_stays_in_range_and_apart_at_any_size(n: int, seed: int, data: st.DataObject) -> None:
    positions = np.array(sorted(data.draw(st.sets(st.integers(0, n - 1), min_size=1, max_size=50))))
    images = permute(positions, n, seed, 3)
    assert images.min() >= 0
    assert images.max() < n
    assert len(set(images.tolist())) == len(positions)


def test_each_position_alone_gives_the_same() -> None:
    together = permute(np.arange(1000), 1000, 7, 2)
    assert together.tolist() == [int(permute(np.array([p]), 1000, 7, 2)[0]) for p in range(1000)]


def test_all_orders_of_a_small_set_are_equally_frequent() -> None:
    orders: dict[tuple[int, ...], int] = {}
    for epoch in range(2400):
        order = tuple(permute(np.arange(4), 4, 0, epoch).tolist())
        orders[order] = orders.get(order, 0) + 1
    assert len(orders) == 24
    assert stats.chisquare(list(orders.values())).pvalue > 1e-4


def test_no_trace_of_the_order_of_the_files() -> None:
    n = 20_000
    first, second = (permute(np.arange(n), n, 0, epoch) for epoch in (0, 1))
    for a, b in ((np.arange(n), first), (first, second), (first[:-1], first[1:])):
        assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(n)
    classes = np.bincount(first[:2000] * 10 // n, minlength=10)
    assert stats.chisquare(classes).pvalue > 1e-4
    assert (first == second).sum() < 10


def test_a_billion_images_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """About as many passes of the network as a thousand do, and no memory beside the batch."""
    passed: list[int] = []
    network = sampler._feistel

    def counted(words: Int64[np.ndarray, "P"], half: int, keys: Int64[np.ndarray, "R"]) -> Int64[np.ndarray, "P"]:
        passed.append(len(words))
        return network(words, half, keys)

    monkeypatch.setattr(sampler, "_feistel", counted)
    tracemalloc.start()
    try:
        for epoch in range(20):
            permute(np.arange(10**9 - 256, 10**9), 10**9, 0, epoch)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 20 * 256 <= sum(passed) <= 20 * 256 * 4, "at most 4 on average"
    assert peak < 2**20


def test_seeds_of_all_64_bits_count() -> None:
    """numpy turns a list that holds both large and small numbers into floats, and then into zeros."""
    draws = {float(random_of(seed, 0, 0, 0).random()) for seed in (0, 1, -1, 2**63, 2**63 + 1, 2**64 - 2)}
    assert len(draws) == 6
    assert permute(np.arange(50), 50, 2**64 - 1, 0).tolist() != permute(np.arange(50), 50, 0, 0).tolist()


def test_streams_depend_on_everything() -> None:
    keys = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (-1, 0, 0, 0)]
    draws = [tuple(random_of(*key).random(4)) for key in keys]
    assert len(set(draws)) == len(keys)
    assert draws[0] == tuple(random_of(0, 0, 0, 0).random(4))


@pytest.mark.parametrize(
    "world_size, batch_size, accumulation", [(1, 16, 1), (2, 8, 1), (4, 4, 1), (2, 4, 2), (1, 2, 8)]
)
def test_the_images_of_a_step_do_not_depend_on_the_ranks(world_size: int, batch_size: int, accumulation: int) -> None:
    """Micro-batches in order, ranks in order within each: the same images in the same order."""
    reference = Sampler(103, 16, seed=5)
    ranks = [Sampler(103, batch_size, 5, rank, world_size, accumulation) for rank in range(world_size)]
    assert {rank.steps_per_epoch for rank in ranks} == {6}
    for step in (0, 5, 6, 40):
        parts = [rank.positions(step, micro) for micro in range(accumulation) for rank in ranks]
        epoch = ranks[0].epoch(step)
        assert epoch == step // 6
        images = ranks[0].images(epoch, np.concatenate(parts))
        assert np.array_equal(images, reference.images(epoch, reference.positions(step, 0)))


def test_an_epoch_reads_each_image_at_most_once_and_leaves_out_others_each_time() -> None:
    sampler = Sampler(103, 16, seed=0)
    left_out = []
    for epoch in range(2):
        seen = np.concatenate([sampler.images(epoch, sampler.positions(epoch * 6 + s, 0)) for s in range(6)])
        assert len(set(seen.tolist())) == 96
        left_out.append(set(range(103)) - set(seen.tolist()))
    assert left_out[0] != left_out[1]


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 200), batch=st.integers(1, 8), world=st.integers(1, 4), data=st.data())
def test_replacements_stay_in_their_own_places(n: int, batch: int, world: int, data: st.DataObject) -> None:
    sampler = Sampler(n, batch, 0, 0, world)
    size = sampler.global_batch_size
    position = data.draw(st.integers(0, n - 1))
    tried = [position, *sampler.replacements(position)]
    assert tried == sorted(tried[: tried.index(max(tried)) + 1]) + sorted(tried[tried.index(max(tried)) + 1 :])
    assert sorted(tried) == list(range(position % size, n, size))
