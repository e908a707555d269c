"""What a callback is."""

from __future__ import annotations

import inspect

from ssltyped.types import Callback, loud, metrics_text


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


def test_what_is_for_files_is_not_for_the_terminal() -> None:
    metrics = {"loss": 1.23456, "watch_feature_rank": 9.0, "knn_top1": 50.0}
    assert loud(metrics) == {"loss": 1.23456, "knn_top1": 50.0}
    assert metrics_text(metrics) == "loss 1.235  knn_top1 50"
    assert metrics_text({"watch_feature_rank": 9.0}) == ""
