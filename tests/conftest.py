"""Shapes are checked in all tests, and each pytest worker keeps to one thread: two workers share two cores."""

from __future__ import annotations

import shapes

shapes.install()

import torch  # noqa: E402  # after the hook, like everything that could import ssltyped

torch.set_num_threads(1)
