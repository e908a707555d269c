import numpy as np
import torch
from sklearn.datasets import load_digits

from ssltyped.data.digits import Digits, DigitSplit, _load

TRAIN, TEST = Digits(split=DigitSplit.TRAIN), Digits(split=DigitSplit.TEST)


def test_sizes() -> None:
    assert (len(TRAIN), len(TEST)) == (1400, 397)
    image = TRAIN.read(3)
    assert image.shape == (3, 32, 32)
    assert image.dtype == torch.uint8


def test_they_are_scikit_learns() -> None:
    theirs, (ink, digits) = load_digits(), _load()
    assert np.array_equal(ink * 16, theirs.images)
    assert digits.tolist() == theirs.target.tolist()


def test_fixed_by_index() -> None:
    assert torch.equal(TRAIN.read(5), Digits(split=DigitSplit.TRAIN).read(5))
    assert not torch.equal(TRAIN.read(5), TRAIN.read(6))
    assert not torch.equal(TRAIN.read(5), TEST.read(5))


def test_splits_share_no_digit_and_hold_all_labels() -> None:
    assert not torch.equal(TRAIN.read(len(TRAIN) - 1), TEST.read(0))
    labels = _load()[1]
    assert [TRAIN.label(i) for i in range(len(TRAIN))] == labels[:1400].tolist()
    assert [TEST.label(i) for i in range(len(TEST))] == labels[1400:].tolist()
    assert set(labels[1400:].tolist()) == set(range(10))


def test_places_and_colours_differ_and_the_ink_is_seen() -> None:
    images = torch.stack([TRAIN.read(i) for i in range(200)]).float()
    assert (images.amax((2, 3)) - images.amin((2, 3))).mean(1).min() > 40
    assert len({tuple(corner.tolist()) for corner in images[:, :, 0, 0]}) > 190


def test_pixels_alone_do_not_tell_the_digit() -> None:
    """Otherwise a method that learns nothing would look good."""
    train = np.stack([TRAIN.read(i).numpy().ravel().astype(np.float64) for i in range(800)])
    test = np.stack([TEST.read(i).numpy().ravel().astype(np.float64) for i in range(200)])
    distances = np.square(test).sum(1)[:, None] - 2 * test @ train.T + np.square(train).sum(1)
    nearest = np.array([TRAIN.label(int(i)) for i in distances.argmin(1)])
    assert (nearest == [TEST.label(i) for i in range(200)]).mean() < 0.5


def test_names() -> None:
    assert (TRAIN.name(3), TEST.name(0)) == ("digits/train/3", "digits/test/0")
