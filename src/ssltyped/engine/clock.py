"""How fast a run trains."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Clock:
    """Images a second of reading and stepping; what comes in between (evaluations, saving) is not counted.

    The host runs ahead of a GPU: its time alone would say how fast steps are queued. So the clock waits for the device
    where it is read, and before what is not counted; in between nothing waits.

    Args:
        device: of this process.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds, self._images, self._started = 0.0, 0, 0.0

    def start(self) -> None:
        self._started = time.perf_counter()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The time of the block, such as an evaluation before the first step, is not counted; nothing waits for it."""
        begun = time.perf_counter()
        yield
        self._started += time.perf_counter() - begun

    def stop(self, images: int, *, wait: bool) -> None:
        """After a step of so many images; `wait`: until the device has done it."""
        if wait and self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self._seconds += time.perf_counter() - self._started
        self._images += images

    def images_per_s(self) -> float:
        """Since the last call, up to a `stop` that waited."""
        rate = self._images / self._seconds
        self._seconds, self._images = 0.0, 0
        return rate
