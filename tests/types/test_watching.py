"""What a callback is."""

from __future__ import annotations

import inspect

from ssltyped.types import (
    Callback,
)


def test_a_callback_does_nothing_unless_it_says_so() -> None:
    callback = Callback()
    moments = [name for name in vars(Callback) if name.startswith("on_")]
    assert moments == [
        "on_train_start", "on_step_start", "on_loss", "on_step_end", "on_metrics", "on_epoch_end", "on_train_end",
    ]  # fmt: skip
    for moment in moments:
        arguments = [None] * (len(inspect.signature(getattr(callback, moment)).parameters))
        assert getattr(callback, moment)(*arguments) is None
    assert callback.every_rank is False
