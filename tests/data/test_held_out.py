"""The same share of each class everywhere, whatever the order and the place of the images."""

from __future__ import annotations

import numpy as np
import pytest

from ssltyped.data.held_out import held_out

LABELS = np.array([0] * 50 + [1] * 20 + [2] * 2 + [4])
NAMES = [f"/data/set/{label}/{index}.png" for index, label in enumerate(LABELS)]


def chosen(labels: np.ndarray, names: list[str], share: float = 0.2, salt: str = "test") -> set[str]:
    found = held_out(labels, names.__getitem__, share, salt)
    return {name.removeprefix("/data/set/") for name, held in zip(names, found, strict=True) if held}


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.99])
def test_the_share_of_each_class_and_never_a_whole_one(share: float) -> None:
    found = held_out(LABELS, NAMES.__getitem__, share, "test")
    counts = [int(found[label == LABELS].sum()) for label in (0, 1, 2, 4)]
    assert counts == [min(max(round(share * n), 1), n - 1) for n in (50, 20, 2, 1)]


def test_neither_order_nor_place_matters() -> None:
    order = np.random.default_rng(0).permutation(len(LABELS))
    assert chosen(LABELS[order], [NAMES[i] for i in order]) == chosen(LABELS, NAMES)
    moved = [name.replace("/data/set", "/mnt/other/disk") for name in NAMES]
    found = held_out(LABELS, moved.__getitem__, 0.2, "test")
    assert (found == held_out(LABELS, NAMES.__getitem__, 0.2, "test")).all()


def test_these_very_images() -> None:
    """Written down: another choice would make numbers that were published with this one another experiment."""
    assert sorted(chosen(LABELS[50:72], NAMES[50:72])) == WRITTEN


def test_another_salt_chooses_others_and_more_hold_out_more_of_the_same() -> None:
    assert chosen(LABELS, NAMES) != chosen(LABELS, NAMES, salt="other")
    assert chosen(LABELS, NAMES) < chosen(LABELS, NAMES, share=0.4)


def test_nothing_of_nothing() -> None:
    assert len(held_out(LABELS[:0], NAMES.__getitem__, 0.2, "test")) == 0


WRITTEN = ["1/50.png", "1/53.png", "1/57.png", "1/62.png", "2/71.png"]
