from collections.abc import Iterator, Sequence

class _Tensor:
    float_val: Sequence[float]

class _Value:
    tag: str
    tensor: _Tensor

class _Summary:
    value: Sequence[_Value]

class _Event:
    step: int
    summary: _Summary
    def HasField(self, name: str) -> bool: ...

class EventFileLoader:
    def __init__(self, file_path: str) -> None: ...
    def Load(self) -> Iterator[_Event]: ...
