"""Shapes are checked in all tests, and each pytest worker keeps to one thread: two workers share two cores."""

from __future__ import annotations

import shapes

shapes.install()

# After the hook, like everything that could import ssltyped.
import functools  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402
from ranks import start_server  # noqa: E402
from torch.distributed.launcher import LaunchConfig  # noqa: E402

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is marked `gpu` is for a card."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device is here"))


@pytest.fixture
def fork_server() -> None:
    """Processes of multiprocessing's "forkserver" have imported what they need."""
    start_server()


@pytest.fixture
def forked_ranks(fork_server: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ranks that `launch` starts are forked and not spawned, which costs each of them 5 seconds of imports.

    They have the environment variables of the server that they are forked from, beside torchrun's, and its stderr: what
    a rank prints is not seen by `capfd`.
    """
    quick = functools.partial(LaunchConfig, start_method="forkserver")
    monkeypatch.setattr("ssltyped.engine.ranks.LaunchConfig", quick)
