"""Handwritten digits that come with an installed library: a data set that needs no download."""

import functools
from enum import Enum
from importlib.metadata import distribution

import cv2
import numpy as np
from jaxtyping import Float, Int64, UInt8

from ssltyped.config import config_for
from ssltyped.transforms.opencv import to_image
from ssltyped.types import Image, Source

FILE = "sklearn/datasets/data/digits.csv.gz"
NUM_DIGITS = 1797
NUM_TRAIN = 1400
"""The writers of the rest are others, because the set is ordered by writer."""

CANVAS = 32
KEY = 0xD161757
"""Of the placing of the digits, which is part of the data set."""


class DigitSplit(Enum):
    TRAIN = "train"
    TEST = "test"


@functools.cache
def _load() -> tuple[Float[np.ndarray, "N 8 8"], Int64[np.ndarray, "N"]]:
    """Ink in [0, 1], and which digit it is: the file that `load_digits` reads, without the seconds of its import."""
    rows = np.loadtxt(str(distribution("scikit-learn").locate_file(FILE)), delimiter=",")
    assert rows.shape == (NUM_DIGITS, 65)
    return rows[:, :64].reshape(-1, 8, 8).astype(np.float32) / 16, rows[:, 64].astype(np.int64)


class Digits(Source):
    """Real handwriting, 8 x 8, put at a random place, scale and colour on a 32 x 32 canvas; label = the digit.

        image = paper + (ink - paper) m,   m in [0, 1]: the digit enlarged to s x s, s ~ U{16, ..., 32}

    Place, scale and colours are fixed by the index. The 1797 digits are those of scikit-learn's `load_digits`
    (UCI, "Optical recognition of handwritten digits"): the first 1400 train, the other 397 test.

    Args:
        split: which part of the digits
    """

    def __init__(self, *, split: DigitSplit = DigitSplit.TRAIN) -> None:
        self.split = split
        self._drawn: dict[int, UInt8[np.ndarray, "32 32 3"]] = {}

    @functools.cached_property
    def _digits(self) -> tuple[Float[np.ndarray, "N 8 8"], Int64[np.ndarray, "N"]]:
        # Here it goes to worker processes, which so need not read the file.
        return _load()

    def _number(self, index: int) -> int:
        """The place among all 1797."""
        assert 0 <= index < len(self)
        return index + (NUM_TRAIN if self.split is DigitSplit.TEST else 0)

    def __len__(self) -> int:
        return NUM_TRAIN if self.split is DigitSplit.TRAIN else NUM_DIGITS - NUM_TRAIN

    def read(self, index: int) -> Image:
        number = self._number(index)
        if number not in self._drawn:
            self._drawn[number] = self._draw(number)
        return to_image(self._drawn[number].copy())

    def _draw(self, number: int) -> UInt8[np.ndarray, "32 32 3"]:
        random = np.random.Generator(np.random.Philox(key=[KEY, number]))
        side = int(random.integers(CANVAS // 2, CANVAS + 1))
        top, left = random.integers(CANVAS - side + 1, size=2)
        ink = np.zeros((CANVAS, CANVAS, 1), dtype=np.float32)
        digit = cv2.resize(self._digits[0][number], (side, side), interpolation=cv2.INTER_CUBIC)
        ink[top : top + side, left : left + side, 0] = digit.clip(0, 1)
        # Dark and bright: which is which is no matter of colour, and every digit can be read.
        paper_colour, ink_colour = random.uniform(0, 110, 3), random.uniform(145, 255, 3)
        return np.asarray((paper_colour + (ink_colour - paper_colour) * ink).round().astype(np.uint8))

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple("0123456789")

    def name(self, index: int) -> str:
        return f"digits/{self.split.value}/{index}"

    def label(self, index: int) -> int:
        return int(self._digits[1][self._number(index)])


DigitsConf = config_for(Digits)
