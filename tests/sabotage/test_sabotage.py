"""Twelve sabotaged recipes are each caught, by the name of the right figure or field; what is healthy is left in peace.

What can be told from the recipe is told before it runs; the rest within 100 steps. Two seeds, in `make test-all`; the
quick ones are of half the batch and half the width, and stop at their figure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from sabotage.broken import broken
from sabotage.digits import healthy
from tiny import tiny_trainer

from ssltyped import config
from ssltyped.config import ConfigError
from ssltyped.engine.alarms import Action, WatchConf
from ssltyped.engine.callbacks.collapse_watch import CollapseWatchConf
from ssltyped.engine.figures import Figure
from ssltyped.experiment import Experiment
from ssltyped.resolution import resolve_experiment
from ssltyped.types import RunStoppedError

BROKEN, HEALTHY = broken(callbacks=[CollapseWatchConf()]), healthy(callbacks=[CollapseWatchConf()])
BEFORE = {
    "temperature": r"loss.temperature: got 0.001: a softmax of cosines over less than 0.01 is one-hot, and teaches",
    "centre_held": r"loss.center_momentum: got 1: the centre never moves",
    "lambda": r"loss.lambda_off: got 1e-12: 256 features that are all the same would cost",
    "lambda_msn": r"loss.lambda_entropy: got 0: nothing keeps all images from one prototype",
    "frozen_prototypes": r"freeze.0.parts: heads.head.prototypes never learns, and stays as random as it starts: give",
    "normalisation": r"data.mean: is \(127.5, 127.5, 127.5\), and that of values in \[0, 1\], as these are, lies in",
}
"""What `--plan` says of them."""

WHILE: Mapping[str, Figure] = {
    "no_stop_gradient": Figure.UNIFORMITY,
    "aliased_teacher": Figure.TEACHER_LAG,
    "aliased_encoder": Figure.TEACHER_LAG,
    "shallow_encoder": Figure.TEACHER_LAG,
    "no_centring": Figure.CENTRE_OFFSET,
    "learning_rate": Figure.UPDATE_SIZE,
    "learning_rate_moco": Figure.UPDATE_SIZE,
    "equal_images": Figure.VIEW_AGREEMENT,
    "equal_images_swav": Figure.VIEW_AGREEMENT,
    "normalisation": Figure.INPUT_STD,
    "normalisation_255": Figure.INPUT_OFFSET,
    "same_views": Figure.SAME_VIEWS,
    "dead_queue": Figure.QUEUE_REFRESH,
    "stuck_queue": Figure.QUEUE_REFRESH,
    "zero_head": Figure.EMBEDDING_STD,
}
"""Which figure is the right one."""

QUICK = ["no_stop_gradient", "aliased_teacher", "aliased_encoder", "no_centring", "learning_rate", "equal_images"]
QUICK += ["normalisation_255", "same_views", "dead_queue", "zero_head"]


@pytest.mark.parametrize("name", BEFORE)
def test_what_can_be_known_before_is_told_before(name: str) -> None:
    told = "\n".join(map(str, resolve_experiment(BROKEN[name]).warnings))
    assert re.search(BEFORE[name], told), told


def test_a_weight_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"loss.lambda_off: got 0.0: input should be greater than 0"):
        resolve_experiment(config.replaced(BROKEN["lambda"], {"loss.lambda_off": 0.0}))
    with pytest.raises(
        ConfigError, match=r"loss.lambda_cls: is 0, and so is lambda_patch: nothing is left that learns"
    ):
        resolve_experiment(config.replaced(HEALTHY["ibot"], {"loss.lambda_cls": 0.0, "loss.lambda_patch": 0.0}))


@pytest.mark.parametrize("name", HEALTHY)
def test_of_the_healthy_nothing_is_said_before(name: str) -> None:
    slow = r"loss.momentum: .* of the teacher is still its start"  # a true word about 100 steps
    assert not [w for w in map(str, resolve_experiment(HEALTHY[name]).warnings) if not re.match(slow, w)]


def told(asked: Experiment, folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The figures of which a run warns."""
    tiny_trainer(asked, folder).fit()
    return re.findall(r"^warning: (\w+) is", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize("name", QUICK)
def test_it_is_stopped_by_the_right_figure(name: str, tmp_path: Path) -> None:
    policy = WatchConf(figure=WHILE[name], action=Action.STOP)
    small = {"trunk.width_multiplier": 0.125, "data.train.batch_size": 32}
    asked = config.replaced(BROKEN[name], {**small, "callbacks": [CollapseWatchConf(watches=[policy])]})
    trainer = tiny_trainer(asked, tmp_path)
    with pytest.raises(RunStoppedError, match=rf"^{WHILE[name].value} is "):
        trainer.fit()
    assert trainer.step <= 100


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", WHILE)
def test_it_is_told_within_a_hundred_steps(
    name: str, seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert WHILE[name].value in told(config.replaced(BROKEN[name], {"seed": seed}), tmp_path, capsys)


@pytest.mark.parametrize("name", ["moco"])
def test_a_healthy_one_is_left_in_peace(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = config.replaced(HEALTHY[name], {"steps": 40, "data.train.batch_size": 32, "trunk.width_multiplier": 0.125})
    assert not told(asked, tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", [*HEALTHY, "simsiam"])
def test_the_healthy_are_left_in_peace(
    name: str, seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not told(config.replaced({**HEALTHY, **BROKEN}[name], {"seed": seed}), tmp_path, capsys)
