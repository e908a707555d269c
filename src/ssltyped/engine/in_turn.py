"""What the ranks of a node need not find out each for itself, before they are a process group."""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Optional

from torch.distributed import rendezvous

from ssltyped.engine.parallel import Place

_BLOCKS = itertools.count()


@contextmanager
def in_turn(place: Optional[Place], tell: Callable[[], str], take: Callable[[str], object]) -> Iterator[None]:
    """The first rank of a node runs the block alone, and the others then with what it tells, also if it failed.

    It is told through the store that torchrun keeps for the ranks, each of which runs the same blocks; without
    torchrun there is none, and nobody waits.
    """
    block = next(_BLOCKS)
    if place is None or place.local_world_size == 1 or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        yield
        return
    store, _, _ = next(rendezvous("env://"))
    key = f"ssltyped/{place.rank - place.local_rank}/{block}"
    if place.local_rank:
        take(store.get(key).decode())
        yield
        return
    try:
        yield
    finally:
        store.set(key, tell())
