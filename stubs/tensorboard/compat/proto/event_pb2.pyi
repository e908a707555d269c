from tensorboard.compat.proto.summary_pb2 import Summary

class SessionLog:
    START: int
    def __init__(self, *, status: int) -> None: ...

class Event:
    def __init__(
        self, *, step: int, wall_time: float, summary: Summary = ..., session_log: SessionLog = ...
    ) -> None: ...
