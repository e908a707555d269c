from typing import NamedTuple

class ScalarEvent(NamedTuple):
    wall_time: float
    step: int
    value: float

class EventAccumulator:
    def __init__(self, path: str) -> None: ...
    def Reload(self) -> EventAccumulator: ...
    def Scalars(self, tag: str) -> list[ScalarEvent]: ...
