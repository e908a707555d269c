"""Configs (first version; being completed)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from hydra_zen import builds

P = ParamSpec("P")
R = TypeVar("R")


def config_for(target: Callable[P, R]) -> Callable[P, R]:
    """The config class of `target`; to the type checker a callable that returns what it builds."""
    return cast("Callable[P, R]", builds(cast(Any, target), populate_full_signature=True, hydra_convert="all"))
