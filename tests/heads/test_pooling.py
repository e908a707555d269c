"""Pooling of maps: windows by hand, sizes, and what is refused."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from facts import FACTS
from heads.contract import waves
from torch import Tensor

from ssltyped.heads.pooling import PoolHead, PoolHeadConf, Pooling


def by_hand(x: Tensor, windows: list[tuple[int, int]], pooling: Pooling) -> Tensor:
    """The mean or the maximum of windows [start, end) in both directions, cut off at the border."""
    kind = torch.mean if pooling is Pooling.AVERAGE else torch.amax
    rows = [[kind(x[:, :, a:b, c:d], dim=(2, 3)) for c, d in windows] for a, b in windows]
    return torch.stack([torch.stack(row, dim=2) for row in rows], dim=2)


@pytest.mark.parametrize("pooling", Pooling)
@pytest.mark.parametrize(
    ("size", "options", "windows"),
    [
        (1, {}, [(0, 7)]),
        (2, {}, [(0, 4), (3, 7)]),
        (3, {}, [(0, 3), (2, 5), (4, 7)]),
        (7, {}, [(i, i + 1) for i in range(7)]),
        (2, {"kernel_size": 3}, [(0, 3), (3, 6)]),
        (3, {"kernel_size": 3, "stride": 2}, [(0, 3), (2, 5), (4, 7)]),
    ],
)
def test_windows(pooling: Pooling, size: int, options: dict[str, int], windows: list[tuple[int, int]]) -> None:
    x = waves((2, 3, 7, 7))
    kept = PoolHead(size=size, in_dim=3, pooling=pooling, flatten=False, **options)  # type: ignore[arg-type]  # by name
    torch.testing.assert_close(kept(x), by_hand(x, windows, pooling))
    flat = PoolHead(size=size, in_dim=3, pooling=pooling, **options)  # type: ignore[arg-type]  # by name
    assert torch.equal(flat(x), kept(x).flatten(1))
    assert flat.out_dim == flat(x).shape[1] == kept.out_dim == 3 * size**2


def test_padding() -> None:
    """Zeros count in a mean; in a maximum the border does not."""
    x = torch.full((1, 1, 2, 2), -1.0)
    mean = PoolHead(size=2, in_dim=1, kernel_size=2, padding=1)
    assert mean(x).tolist() == [[-0.25] * 4]
    largest = PoolHead(size=2, in_dim=1, kernel_size=2, padding=1, pooling=Pooling.MAX)
    assert largest(x).tolist() == [[-1.0] * 4]


def test_nothing_to_learn_and_a_gradient_through() -> None:
    head = PoolHead(size=2, in_dim=3)
    x = waves((2, 3, 4, 4)).requires_grad_()
    head(x).sum().backward()
    assert not list(head.parameters())
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.full_like(x, 0.25))
    with torch.device("meta"):
        assert tuple(PoolHead(size=2, in_dim=3)(torch.empty(2, 3, 4, 4)).shape) == (2, 12)


def test_a_result_may_be_higher_than_wide() -> None:
    maps = waves((2, 3, 7, 5))
    head = PoolHead(size=(3, 1), in_dim=3, flatten=False)
    assert torch.equal(head(maps), torch.nn.functional.adaptive_avg_pool2d(maps, (3, 1)))
    assert head.out_dim == 9


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="in_dim is None"):
        PoolHead(size=1)
    with pytest.raises(ValueError, match=r"a map of \(7, 7\) gives 3 x 3, not size 2 x 2"):
        PoolHead(size=2, in_dim=3, kernel_size=3, stride=2)(waves((2, 3, 7, 7)))
    for options in ({"stride": 2}, {"padding": 1}):
        make = partial(PoolHeadConf, size=2, **options)  # type: ignore[arg-type]  # by name
        (problem,) = PoolHead.problems(make(), FACTS)
        assert (problem.path, "no effect without kernel_size" in problem.message) == ("stride", True)
        assert not list(PoolHead.problems(make(kernel_size=3), FACTS))
