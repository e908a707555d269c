"""BatchNorm of one image at a time: told, or refused where there is a single value."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from methods import METHODS, vit
from tiny import tiny
from torch import nn

from ssltyped import launch
from ssltyped.cli.plan import plan
from ssltyped.config import INFERRED, ConfigError, config_for, override, replaced
from ssltyped.experiment import Experiment
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.model.batch_norm import values_seen
from ssltyped.model.freeze import FreezeConf
from ssltyped.resolution import resolve_experiment
from ssltyped.types import Batch, Head, Loss, Model, Moment, StepOutput

ALONE = ["data.train.batch_size=1", "distributed.num_procs=2", "distributed.sync_bn_group=1"]
SHARED = [*ALONE[:2], "distributed.sync_bn_group=2"]
TOLD = "1 image a rank: BatchNorm normalizes by the statistics of a single image: use a larger"


class Predicts(Loss):
    """A method with a predictor, which each view goes through alone.

    Args:
        head: that is read.
        predictor: of the method.
        twice: both views go through it at once.
    """

    def __init__(self, *, head: str = INFERRED, predictor: Head, twice: bool = False) -> None:
        super().__init__()
        self.head, self.predictor, self.twice = head, predictor, twice

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        rows = model(batch.views, heads=[self.head]).of(self.head)
        parts = [self.predictor(part) for part in rows.chunk(1 if self.twice else 2)]
        return StepOutput(loss=sum(part.square().mean() for part in parts[1:]) + parts[0].square().mean())


PredictsConf = config_for(Predicts)


def predicts(*, twice: bool, bn: bool = True) -> Experiment:
    """Only the predictor has a BatchNorm, if anything has."""
    loss = PredictsConf(predictor=MLPHeadConf(dims=[8, 8], use_bn=bn), twice=twice)
    return replaced(tiny(loss=loss, steps=2), {"trunk": vit()})


def warned(asked: Experiment, *overrides: str) -> list[str]:
    """Of BatchNorm; not that what is frozen stays random, which it does here."""
    found = resolve_experiment(override(asked, list(overrides))).warnings
    return [problem.message for problem in found if not problem.path.startswith("freeze.")]


def refused(asked: Experiment, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve_experiment(override(asked, list(overrides)))
    (problem,) = caught.value.problems
    assert problem.path == "data.train.batch_size"
    return problem.message


def test_one_image_a_rank() -> None:
    asked = tiny(steps=2)
    (text,) = warned(asked, *ALONE)
    assert text.startswith(TOLD)
    assert not warned(asked, *SHARED)
    assert not warned(asked, "data.train.batch_size=2", *ALONE[1:])
    assert not warned(replaced(asked, {"trunk": vit()}), *ALONE), "it has none"


def test_a_single_value_is_refused_before_the_run(tmp_path: Path) -> None:
    """Barlow Twins passes each view alone: torch would raise in the first step."""
    asked = METHODS["barlow_twins"]
    text = refused(asked, *ALONE)
    assert text.startswith("1 image a rank is a single value a channel for BatchNorm (heads.head.layers.1)")
    assert "distributed.sync_bn_group" in text
    with pytest.raises(ConfigError, match=r"data\.train\.batch_size: 1 image a rank"):
        launch(asked, overrides=[*ALONE, f"output={tmp_path}"])
    assert not list(tmp_path.iterdir())
    assert [text.startswith(TOLD) for text in warned(asked, *ALONE, "passes=size")] == [True]


def test_shared_among_ranks_it_is_planned_and_not_warned_of() -> None:
    asked = override(METHODS["barlow_twins"], SHARED)
    assert not resolve_experiment(asked).warnings
    assert "heads.head" in plan(asked, "shared")


def test_of_the_method_too() -> None:
    assert "BatchNorm (loss.predictor.layers.1)" in refused(predicts(twice=False), *ALONE)
    assert [text.startswith(TOLD) for text in warned(predicts(twice=True), *ALONE)] == [True]
    assert not warned(predicts(twice=False, bn=False), *ALONE)
    assert not warned(predicts(twice=False), *SHARED)


@pytest.mark.parametrize(
    ("parts", "steps", "fails"),
    [(["trunk"], None, True), (["heads.head"], None, False), (["trunk", "heads.head.layers.1"], None, False)],
)
def test_what_is_frozen_for_ever_does_not_matter(parts: list[str], steps: int | None, fails: bool) -> None:
    asked = replaced(METHODS["barlow_twins"], {"freeze": [FreezeConf(parts=parts, steps=steps)]})
    if fails:
        refused(asked, *ALONE)
    else:
        assert len(warned(asked, *ALONE)) == ("trunk" not in parts)


def test_what_is_frozen_for_a_while_does() -> None:
    """Its BatchNorm goes on normalizing by the batch."""
    refused(replaced(METHODS["barlow_twins"], {"freeze": [FreezeConf(parts=["heads.head"], steps=1)]}), *ALONE)


def test_a_part_of_the_method_that_is_frozen() -> None:
    assert not warned(replaced(predicts(twice=False), {"freeze": [FreezeConf(parts=["loss.predictor"])]}), *ALONE)


def test_the_fewest_values_of_every_layer_that_is_reached() -> None:
    """Two rows of 3 x 3 values, then one of 4; what fails after that changes nothing."""
    net = nn.ModuleDict({"norm": nn.BatchNorm2d(5), "still": nn.BatchNorm2d(5).eval(), "unused": nn.BatchNorm2d(5)})

    def step() -> None:
        for shape in ((2, 5, 3, 3), (1, 5, 2, 2)):
            net["still"](net["norm"](torch.zeros(shape)))
        raise RuntimeError

    assert values_seen(net, step) == {"norm": 4}
    assert not net["norm"]._forward_pre_hooks
