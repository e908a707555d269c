"""What is kept of the last batches: whose images, how many, on one and on two ranks, and after a restart."""

from __future__ import annotations

import torch
from ranks import run_on_ranks
from torch import Tensor

from ssltyped import distributed
from ssltyped.engine.recent import Recent

CPU = torch.device("cpu")


def batch(number: int, images: int, views: int = 2) -> Tensor:
    """Rows by view: each says (view, image)."""
    return torch.tensor([[view, 100 * number + image] for view in range(views) for image in range(images)]).float()


def filled(images: int, batches: int, size: int) -> Recent:
    recent = Recent(images)
    for number in range(batches):
        recent.add("z", recent.first_of(batch(number, size), size), size)
    return recent


def test_the_views_of_the_last_whole_batches() -> None:
    found = filled(10, batches=5, size=4).gathered()["z"]
    assert found.shape == (8, 2, 2), "two batches of 4 fit into 10 images"
    assert found[:, 0, 1].tolist() == [300, 301, 302, 303, 400, 401, 402, 403]
    assert torch.equal(found[:, 0, 1], found[:, 1, 1]), "the views of an image are side by side"
    assert found[:, :, 0].tolist() == [[0, 1]] * 8


def test_of_a_large_batch_the_first_images() -> None:
    assert filled(3, batches=2, size=8).gathered()["z"][:, 0, 1].tolist() == [100, 101, 102]


def test_what_is_kept_is_a_copy() -> None:
    recent, rows = Recent(4), torch.zeros(8, 1000)
    recent.add("z", recent.first_of(rows, 4), 4)
    rows += 1
    kept = recent.gathered()["z"]
    assert not kept.any()
    assert kept.untyped_storage().nbytes() == 4 * kept.numel()


def test_a_batch_of_another_size_starts_anew() -> None:
    recent = filled(8, batches=2, size=4)
    recent.add("z", recent.first_of(batch(7, 2), 2), 2)
    assert recent.gathered()["z"][:, 0, 1].tolist() == [700, 701]


def test_it_goes_on_after_a_restart() -> None:
    first, second = filled(8, batches=3, size=4), Recent(8)
    second.load_state_dict(first.state_dict(), CPU)
    for recent in (first, second):
        recent.add("z", recent.first_of(batch(9, 4), 4), 4)
    assert torch.equal(first.gathered()["z"], second.gathered()["z"])


def on_rank() -> Tensor:
    recent, rank = Recent(8), distributed.rank()
    for number in range(3):
        recent.add("z", recent.first_of(batch(number, 4), 4)[2 * rank : 2 * rank + 2], 2)
    return recent.gathered()["z"]


def test_two_ranks_keep_what_one_process_does() -> None:
    alone = filled(8, batches=3, size=4).gathered()["z"]
    for found in run_on_ranks(on_rank, 2):
        assert sorted(found.flatten(1).tolist()) == sorted(alone.flatten(1).tolist())
