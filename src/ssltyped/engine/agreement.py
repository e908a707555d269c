"""What one rank does for all of them, and all of them know of."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import TypeVar, cast

import torch

from ssltyped import distributed
from ssltyped.config import ConfigError
from ssltyped.types import Problem

T = TypeVar("T")


def first_rank_enters(make: Callable[[], AbstractContextManager[T]], held: ExitStack) -> T:
    """What rank 0 gets from entering the context that it makes, on every rank (collective); `held` leaves it.

    Raises `ConfigError` on all of them if that does.
    """
    answer: list[tuple[object, list[Problem]]] = [(None, [])]
    if distributed.is_main():
        try:
            answer = [(held.enter_context(make()), [])]
        except ConfigError as error:
            answer = [(None, error.problems)]
    if distributed.world_size() > 1:
        torch.distributed.broadcast_object_list(answer)
    given, problems = answer[0]
    if problems:
        raise ConfigError(problems)
    return cast("T", given)
