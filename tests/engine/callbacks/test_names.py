"""Callbacks by name: state goes back to the same one."""

from __future__ import annotations

from ssltyped.engine.callbacks.names import named_callbacks
from ssltyped.engine.checkpoint import Checkpoints
from ssltyped.evals.online_knn import KNN
from ssltyped.types import Callback


class Holds(Callback):
    """Holds another part.

    Args:
        part: any.
    """

    def __init__(self, *, part: Checkpoints) -> None:
        self.part = part


def test_class_fields_and_number_make_the_name() -> None:
    names = [name for name, _ in named_callbacks([KNN(every_epochs=1, k=3), KNN(every_epochs=1, k=4)])]
    assert names == [f"KNN(every_epochs=1, k={k}, temperature=0.07, at_start=False, enabled=True).0" for k in (3, 4)]
    equal = [name for name, _ in named_callbacks([KNN(every_epochs=1), KNN(every_epochs=1)])]
    assert [name[-2:] for name in equal] == [".0", ".1"]


def test_an_address_in_memory_is_no_part_of_it() -> None:
    first, second = (next(named_callbacks([Holds(part=Checkpoints())]))[0] for _ in range(2))
    assert first == second
    assert " at 0x" not in first
