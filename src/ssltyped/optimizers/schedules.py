"""What the schedules of an optimizer must be: finite, not negative, and what their learning rate is meant for."""

from collections.abc import Iterator, Sequence
from numbers import Real
from typing import Optional

from ssltyped import config
from ssltyped.config.hints import failure
from ssltyped.optimizers.rate import lr_path, peak_lr
from ssltyped.types import Facts, Problem, Scheduler, Update


def wrong_value(schedule: Scheduler) -> str:
    """What is wrong with the first value of a built schedule that no rate can have; empty: all are right."""
    for place in range(2000):
        progress = place / 2000
        try:
            value: object = schedule(progress)
        except Exception as error:
            return f"fails at progress {progress:g}: {failure(error)}"
        if not isinstance(value, Real) or not 0 <= float(value) < float("inf"):
            shown = f"{float(value):g}" if isinstance(value, Real) else repr(value)
            return f"gives {shown} at progress {progress:g}: every value must be a number, finite and not negative"
    return ""


def lr_problems(
    optimizer: object, schedule: object, facts: Facts, could_be_inferred: Sequence[str]
) -> Iterator[Problem]:
    """What cannot be meant by a learning rate and its schedule, for the configs of both.

    `could_be_inferred` are the paths of the schedule's fields that are given and need not be.
    Of a learning rate that the schedule never comes near, because the schedule has values of its own, nothing came.
    """
    built = _built(schedule)
    if built is None:
        return
    if wrong := wrong_value(built):
        yield Problem("schedule", wrong)
        return
    lr, highest = peak_lr(optimizer), built.highest()
    if lr is not None and abs(highest - lr) > 0.01 * lr:
        message = f"got {lr:g}, but the schedule rises to {highest:g}, which is what counts"
        nulls = " ".join(f"{path}=null" for path in could_be_inferred)
        remedy = f"leave the schedule's values out ({nulls}), or set the same lr"
        yield Problem(f"optimizer.{lr_path(optimizer)}", f"{message}: {remedy}")
    if built.update is Update.EPOCH and highest > 0 and built(0.0) == 0 and facts.epochs is not None:
        message = "is 0 for the whole of the first epoch, since it changes by epochs"
        yield Problem("schedule", f"{message}: let it start above 0, or set schedule.update=step")


def lr_warnings(schedule: object, facts: Facts) -> Iterator[Problem]:
    """What may be unwise in a learning rate's schedule."""
    built = _built(schedule)
    if built is None:
        return
    samples = built.samples()
    if samples[-1] > samples[1000] and samples[-1] >= max(samples):
        yield Problem("schedule", f"rises to the end of the run, where it is {samples[-1]:g}: most fall")
    if built.update is Update.EPOCH and facts.epochs is not None:
        still = [epoch + 1 for epoch in range(1, facts.epochs) if built(epoch / facts.epochs) == 0]
        if still:
            yield Problem("schedule", f"is 0 for {len(still)} whole epochs, the first of which is epoch {still[0]}")


def _built(schedule: object) -> Optional[Scheduler]:
    """The schedule of a config; None: it cannot be built, which its own problems say."""
    try:
        built = config.build(schedule)
    except ValueError:
        return None
    assert isinstance(built, Scheduler)
    return built
