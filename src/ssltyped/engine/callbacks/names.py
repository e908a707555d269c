"""Callbacks by name: what a checkpoint keeps of each goes back to the same one."""

import inspect
import re
from collections import Counter
from collections.abc import Iterable, Iterator

from ssltyped.types import Callback


def named_callbacks(callbacks: Iterable[Callback]) -> Iterator[tuple[str, Callback]]:
    """Each with the name of its state in a checkpoint: its class and fields, and which of equal ones it is."""
    seen: Counter[str] = Counter()
    for callback in callbacks:
        fields = [f"{name}={getattr(callback, name, None)!r}" for name in inspect.signature(type(callback)).parameters]
        called = re.sub(r" at 0x\w+", "", f"{type(callback).__name__}({', '.join(fields)})")
        yield f"{called}.{seen[called]}", callback
        seen[called] += 1
