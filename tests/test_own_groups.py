"""Parts of a model and of its loss that learn in their own way, in whole runs: of MSN, whose loss has prototypes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from methods import METHODS
from tiny import tiny_trainer
from torch import Tensor

from ssltyped import config
from ssltyped.config import ConfigError
from ssltyped.engine.checkpoint import CheckpointsConf
from ssltyped.engine.trainer import Trainer
from ssltyped.experiment import Experiment
from ssltyped.model.freeze import FreezeConf
from ssltyped.optimizers.groups import GroupConf
from ssltyped.optimizers.rate import RateConf
from ssltyped.optimizers.torch_optim import SGDConf
from ssltyped.resolution import resolve_experiment
from ssltyped.schedulers.curves import ConstantConf
from ssltyped.types import Scheduler

LR = 0.05
PROTOTYPES = "loss.prototypes"


def asked(*groups: object, **fields: object) -> Experiment:
    optimizer = SGDConf(rate=RateConf(lr=LR), weight_decay=0.0, momentum=0.0)
    return config.replaced(
        METHODS["msn"], {"optimizer": config.replaced(optimizer, {"groups": list(groups)}), **fields}
    )


def own(lr_scale: float = 10.0, schedule: Scheduler | None = None) -> object:
    return GroupConf(parts=[PROTOTYPES], lr_scale=lr_scale, schedule=schedule)


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in trainer._step.module.named_parameters()}


def movement(recipe: Experiment, folder: Path) -> dict[str, Tensor]:
    """What one step changes."""
    trainer = tiny_trainer(config.replaced(recipe, {"steps": 1}), folder)
    before = weights(trainer)
    trainer.fit()
    return {name: after - before[name] for name, after in weights(trainer).items()}


def test_prototypes_at_ten_times_the_rate_move_ten_times_as_far_and_the_rest_as_before(tmp_path: Path) -> None:
    plain, scaled = movement(asked(), tmp_path / "a"), movement(asked(own()), tmp_path / "b")
    assert float(plain[PROTOTYPES].abs().max()) > 1e-5
    torch.testing.assert_close(scaled.pop(PROTOTYPES), 10 * plain.pop(PROTOTYPES), rtol=1e-3, atol=1e-7)
    assert all(torch.equal(scaled[name], plain[name]) for name in plain)


def test_a_schedule_of_their_own_is_followed_and_logged(tmp_path: Path) -> None:
    trainer = tiny_trainer(asked(own(schedule=ConstantConf())), tmp_path)
    seen: list[dict[str, float]] = []
    trainer.log = lambda metrics: seen.append(dict(metrics))  # type: ignore[method-assign]  # to see every step
    trainer.fit()
    assert [row["lr.loss.prototypes"] for row in seen] == pytest.approx([10 * LR] * 4)
    assert [row["lr"] for row in seen] == pytest.approx([LR * f for f in (1.0, 0.8536, 0.5, 0.1464)], rel=1e-3)
    rates = {group["name"]: group["lr"] for group in trainer._step.optimizer.param_groups}
    assert rates["loss.prototypes.decay"] == pytest.approx(10 * LR)
    assert rates["decay"] == pytest.approx(seen[-1]["lr"])


def test_stopped_and_resumed_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    recipe = asked(
        own(schedule=ConstantConf()),
        GroupConf(parts=["heads"], weight_decay=0.1),
        checkpoints=CheckpointsConf(every_steps=1, keep=9),
        freeze=[FreezeConf(parts=[PROTOTYPES], steps=1)],
    )
    whole = tiny_trainer(recipe, tmp_path / "a")
    whole.fit()
    resumed = tiny_trainer(recipe, tmp_path / "b")
    resumed.fit(sorted((tmp_path / "a" / "checkpoints").glob("*2*"))[0])
    assert resumed.step == 4
    got, want = weights(resumed), weights(whole)
    assert all(torch.equal(got[name], want[name]) for name in want)


def test_a_part_of_the_loss_is_frozen_for_a_while_or_for_ever(tmp_path: Path) -> None:
    for_ever, one_step = FreezeConf(parts=[PROTOTYPES]), FreezeConf(parts=[PROTOTYPES, "trunk"], steps=1)
    still = movement(asked(freeze=[for_ever]), tmp_path / "a")
    assert not still[PROTOTYPES].any()
    assert any(change.any() for name, change in still.items() if name.startswith("model.trunk"))
    held = movement(asked(freeze=[one_step]), tmp_path / "b")
    assert not any(change.any() for name, change in held.items() if not name.startswith("model.heads"))
    trainer = tiny_trainer(asked(freeze=[one_step]), tmp_path / "c")
    before = weights(trainer)
    trainer.fit()
    after = weights(trainer)
    assert not torch.equal(after[PROTOTYPES], before[PROTOTYPES])


def test_names_that_nothing_has_are_errors_before_the_run() -> None:
    groups = [GroupConf(parts=["heads", "loss.prototype"]), GroupConf(parts=["loss"]), GroupConf(parts=["loss"])]
    freezes = [FreezeConf(parts=["loss.prototyps"]), FreezeConf(parts=["loss.teacher"], steps=1)]
    with pytest.raises(ConfigError) as caught:
        resolve_experiment(asked(*groups, freeze=freezes))
    found = {problem.path: problem.message for problem in caught.value.problems}
    assert set(found) == {"optimizer.groups.0.parts.1", "optimizer.groups.2.parts.0", "freeze.0.parts.0"}
    assert "did you mean 'loss.prototypes'?" in found["optimizer.groups.0.parts.1"]
    assert "did you mean 'loss.prototypes'?" in found["freeze.0.parts.0"]
    assert "parameters of 'loss' are in groups.1 too" in found["optimizer.groups.2.parts.0"]


def test_what_is_frozen_for_ever_learns_in_no_way_of_its_own() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.groups\.0\.parts\.0: nothing in 'loss\.prototypes' learns"):
        resolve_experiment(asked(own(), freeze=[FreezeConf(parts=[PROTOTYPES])]))
    resolve_experiment(asked(own(), freeze=[FreezeConf(parts=[PROTOTYPES], steps=1)]))
