"""Shapes are checked in all tests, and each pytest worker keeps to one thread: two workers share two cores."""

from __future__ import annotations

import shapes

shapes.install()

import pytest  # noqa: E402  # after the hook, like everything that could import ssltyped
import torch  # noqa: E402

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is marked `gpu` is for a card."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device is here"))
