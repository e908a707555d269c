"""What one rank does for all of them, and all of them know of."""

from collections.abc import Callable
from typing import TypeVar, cast

import torch

from ssltyped.distributed.collectives import is_main, world_size

T = TypeVar("T")


def first_rank_does(do: Callable[[], T], fails_with: type[Exception]) -> T:
    """What rank 0 gets, on every rank (collective); an error of this kind is raised on all of them."""
    answer: list[tuple[object, Exception | None]] = [(None, None)]
    if is_main():
        try:
            answer = [(do(), None)]
        except fails_with as error:
            answer = [(None, error)]
    if world_size() > 1:
        torch.distributed.broadcast_object_list(answer)
    given, wrong = answer[0]
    if wrong is not None:
        raise wrong
    return cast("T", given)
