"""Is the loss what it can be, and does it move?"""

from typing import Optional

from ssltyped.engine.parallel import say
from ssltyped.types import LossRange

TOLERANCE = 0.01
"""How near to the uniform value is at it; and, of a bound (at least of 1), the accuracy of sums in low precision."""
SHARE, VALUES = 0.2, 10
"""A loss stays where it is if it is there for this share of the run, and at least so many logged values."""


class LossWatch:
    """Says once if the loss leaves the range that its method states, and once if it stays at the uniform value."""

    def __init__(self) -> None:
        self._said: set[str] = set()
        self._uniform_at: list[int] = []

    def __call__(self, loss: float, expected: Optional[LossRange], step: int, steps: int) -> None:
        """Look at a logged value, that of a step of so many."""
        if expected is None:
            return
        if _beyond(expected.lowest, loss) or _beyond(loss, expected.highest):
            where = f"the loss of step {step} is {loss:.4g}, outside of {expected.lowest:.4g} to {expected.highest:.4g}"
            self._say("range", f"{where}, where this method's lies" + f": {expected.remedy}" * bool(expected.remedy))
        at_uniform = expected.uniform is not None and abs(loss - expected.uniform) <= TOLERANCE
        self._uniform_at = [*self._uniform_at, step] if at_uniform else []
        if len(self._uniform_at) >= VALUES and step - self._uniform_at[0] >= SHARE * steps:
            since = f"from step {self._uniform_at[0]} to {step} the loss stays at {expected.uniform:.4g}"
            self._say("uniform", f"{since}, that of outputs which are the same for every image: nothing is learned")

    def _say(self, what: str, text: str) -> None:
        if what not in self._said:
            self._said.add(what)
            say(f"warning: {text}")


def _slack(value: float) -> float:
    return TOLERANCE * max(1.0, abs(value))


def _beyond(less: float, more: float) -> bool:
    """Whether `less` is the larger one, by more than rounding."""
    return less - more > _slack(min(less, more, key=abs))
