"""Measure the two SimCLR views of an image against the same with Pillow and torchvision.

    python tools/bench/transforms.py [--pairs 200] [--size 224]

Both start from the bytes of one 500 x 375 JPEG and end with two uint8 views of 224 x 224, on one core. They run in
turn; printed are the median times and the median, over pairs of runs, of the ratio of times.
"""

# mypy: allow-untyped-calls
# (torchvision's transforms are not annotated.)

from __future__ import annotations

import argparse
import functools
import io
import time
from collections.abc import Callable

import cv2
import numpy as np
import torch
from PIL import Image as Pillow
from PIL import ImageFilter
from torchvision import transforms as tv

from ssltyped.data.decode import decode
from ssltyped.data.sampler import random_of
from ssltyped.transforms.blur import GaussianBlur
from ssltyped.transforms.colour import ColorDistortion
from ssltyped.transforms.geometry import HorizontalFlip, RandomResizedCrop
from ssltyped.transforms.views import RepeatViews


def jpeg() -> bytes:
    """A photograph-like picture: shapes of all sizes, and noise."""
    random = np.random.default_rng(0)
    layers = np.stack([cv2.resize(random.normal(0, 40, (n, n, 3)), (500, 375)) for n in (4, 16, 64, 256)])
    buffer = io.BytesIO()
    Pillow.fromarray((128 + layers.sum(0)).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def blur(image: Pillow.Image) -> Pillow.Image:
    return image.filter(ImageFilter.GaussianBlur(float(np.random.uniform(0.1, 2.0))))


def with_pillow(data: bytes, size: int) -> Callable[[int], object]:
    jitter = tv.RandomApply([tv.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8)
    chain = tv.Compose(
        [
            tv.RandomResizedCrop(size),
            tv.RandomHorizontalFlip(),
            jitter,
            tv.RandomGrayscale(0.2),
            tv.RandomApply([tv.Lambda(blur)], 0.5),
            tv.PILToTensor(),
        ]
    )

    def run(_: int) -> object:
        image = Pillow.open(io.BytesIO(data)).convert("RGB")
        return [chain(image), chain(image)]

    return run


def with_ours(data: bytes, size: int) -> Callable[[int], object]:
    chain = [RandomResizedCrop(size=size), HorizontalFlip(), ColorDistortion(), GaussianBlur()]
    views = RepeatViews(transforms=[*chain])
    return lambda number: views(decode(data), functools.partial(random_of, 0, 0, number))


def seconds(run: Callable[[int], object], number: int) -> float:
    start = time.perf_counter()
    run(number)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--size", type=int, default=224)
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    data = jpeg()
    pillow, ours = with_pillow(data, asked.size), with_ours(data, asked.size)
    times = np.array([(seconds(pillow, number), seconds(ours, number)) for number in range(asked.pairs)])
    first, second = np.median(times, axis=0) * 1000
    ratio = np.median(times[:, 0] / times[:, 1])
    print(f"two {asked.size} views of a {len(data) // 1024} KiB JPEG: Pillow {first:.2f} ms, OpenCV {second:.2f} ms")
    print(f"median ratio of pairs: {ratio:.2f}; ratio of means: {times[:, 0].mean() / times[:, 1].mean():.2f}")


if __name__ == "__main__":
    main()
