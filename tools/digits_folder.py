"""Writes the embedded digits as a user's images are: FOLDER/train and FOLDER/test, with a folder of files a class.

python tools/digits_folder.py digits
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2

from ssltyped.data.digits import Digits, DigitSplit
from ssltyped.transforms.opencv import to_array


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    for split in DigitSplit:
        digits, folder = Digits(split=split), options.folder / split.value
        for index in range(len(digits)):
            path = folder / digits.classes[digits.label(index)] / f"{index:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), to_array(digits.read(index))[..., ::-1])
        print(f"{folder}: {len(digits)} images")


if __name__ == "__main__":
    main()
