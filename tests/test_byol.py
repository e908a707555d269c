"""BYOL as a stranger would write it: one file outside the package, with a predictor at ten times the learning rate."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Self

import pytest
import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from ranks import run_on_ranks
from stops import StopConf
from tiny import TORCHRUN, PatchesConf, sha256, tiny, tiny_trainer
from torch import Tensor

from ssltyped.cli.plan import plan
from ssltyped.config import INFERRED, ConfigError, config_for, override, replaced
from ssltyped.engine.trainer import Outcome, Trainer
from ssltyped.experiment import Experiment
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.launch import launch
from ssltyped.losses.teacher import MomentumTeacher, cosine_momentum
from ssltyped.optimizers.groups import GroupConf
from ssltyped.optimizers.rate import RateConf
from ssltyped.optimizers.torch_optim import SGDConf
from ssltyped.resolution import resolve_experiment
from ssltyped.types import Batch, Carry, Facts, Head, Loss, Model, Moment, Problem, StepOutput


class BYOLLoss(Loss):
    """loss = mean over both orders of the views of  2 - 2 cos(q(z_a), z'_b)   (Grill et al. 2020, arXiv 2006.07733).

    z is the head's output, z' that of the momentum teacher, q the predictor.

    Args:
        head: the head that is read.
        predictor: q, of the head's width on both sides.
        momentum: of the teacher at the start; 0.996 (section 3.3).
    """

    teacher: MomentumTeacher

    def __init__(
        self,
        *,
        head: str = INFERRED,
        predictor: Head,
        momentum: Annotated[float, Ge(0), Le(1)] = 0.996,
    ) -> None:
        super().__init__()
        self.head, self.predictor, self.momentum = head, predictor, momentum

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> list[Problem]:
        wrong = [*super().problems(config, facts)]
        if facts.num_views != 2:
            wrong.append(Problem("", f"BYOL needs 2 views; the data makes {facts.num_views}"))
        return wrong

    def setup(self, model: Model) -> None:
        self.teacher = MomentumTeacher(model, batch_statistics=True)

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        q = F.normalize(self.predictor(model(batch.views, heads=[self.head]).of(self.head)), dim=1)
        target = F.normalize(self.teacher(batch.views, heads=[self.head]).of(self.head), dim=1)
        cosine = (q * torch.cat(target.chunk(2)[::-1])).sum(dim=1)
        return StepOutput(loss=(2 - 2 * cosine).mean(), logs={"cosine": cosine.detach().mean()})

    def update(self, model: Model, carries: Sequence[Carry], moment: Moment) -> None:
        self.teacher.update(model, cosine_momentum(self.momentum, moment.progress_after))

    def product(self, model: Model) -> Model:
        return model  # the paper evaluates the online network


BYOLLossConf = config_for(BYOLLoss)


def byol(folder: Path = Path("runs"), *, steps: int = 4, lr_scale: float = 10.0) -> Experiment:
    groups = [GroupConf(parts=["loss.predictor"], lr_scale=lr_scale)]
    optimizer = SGDConf(rate=RateConf(lr=0.05), momentum=0.0, weight_decay=0.0, groups=groups)
    base = tiny(output=folder, steps=steps, source=PatchesConf(), optimizer=optimizer)
    return replaced(base, {"loss": BYOLLossConf(predictor=MLPHeadConf(dims=[16, 8], use_bn=True))})


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)


def test_the_equation_in_plain_loops(tmp_path: Path) -> None:
    trainer = tiny_trainer(byol(), tmp_path)
    loss, model = trainer.loss.eval(), trainer.student.eval()
    assert isinstance(loss, BYOLLoss)
    views = tuple(torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(v)) for v in range(2))
    with torch.no_grad():
        z = [model([view]).of("projector") for view in views]
        q = [loss.predictor(rows) for rows in z]
        terms = [2 - 2 * F.cosine_similarity(q[a][n], z[1 - a][n], dim=0) for a in (0, 1) for n in range(4)]
        got = loss.step(model, Batch(views=views, index=torch.arange(4)), trainer.moment).loss
    torch.testing.assert_close(got, torch.stack(terms).mean(), msg="the teacher is still the student")


def test_its_predictor_has_its_width_inferred_and_its_own_rate(tmp_path: Path) -> None:
    resolved = resolve_experiment(byol())
    assert "loss.predictor.in_dim" in {row.field for row in resolved.rows}
    trainer = tiny_trainer(byol(), tmp_path)
    trainer.fit()
    rates: dict[str, set[float]] = {"model": set(), "loss": set()}
    of_loss = {id(p) for p in trainer.loss.parameters() if p.requires_grad}
    for group in trainer._step.optimizer.param_groups:
        for p in group["params"]:
            rates["loss" if id(p) in of_loss else "model"].add(group["lr"])
    (fast,), (slow,) = rates["loss"], rates["model"]
    assert fast == pytest.approx(10 * slow)
    assert "loss.predictor" in plan(byol(), "byol")


def test_ten_times_the_rate_moves_it_ten_times_as_far(tmp_path: Path) -> None:
    """One step of plain SGD from the same weights."""
    moved = []
    for scale in (1.0, 10.0):
        folder = tmp_path / str(scale)
        folder.mkdir()
        trainer = tiny_trainer(byol(steps=1, lr_scale=scale), folder)
        before = {name: p.detach().clone() for name, p in trainer._step.module.named_parameters()}
        trainer.fit()
        after = trainer._step.module.named_parameters()
        moved.append({name: (p.detach() - before[name]) for name, p in after if p.requires_grad})
    for name, slow in moved[0].items():
        factor = 10.0 if name.startswith("loss.predictor") else 1.0
        torch.testing.assert_close(moved[1][name], factor * slow, rtol=1e-3, atol=1e-6)


def on_rank(folder: Path) -> tuple[float, dict[str, Tensor]]:
    asked = override(byol(folder, steps=2), ["distributed.num_procs=2", "data.train.batch_size=4"])
    trainer = tiny_trainer(asked, folder)
    trainer.fit()
    return trainer.metrics["loss"], weights_of(trainer)


def weights_of(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in trainer._step.module.named_parameters()}


def test_two_ranks_are_one_process(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    alone = tiny_trainer(byol(tmp_path, steps=2), tmp_path / "one")
    alone.fit()
    (tmp_path / "two").mkdir()
    first, second = run_on_ranks(on_rank, 2, tmp_path / "two")
    assert first[0] == pytest.approx(alone.metrics["loss"], rel=1e-4)
    for name, value in weights_of(alone).items():
        assert torch.equal(first[1][name], second[1][name]), name
        torch.testing.assert_close(first[1][name], value, rtol=1e-2, atol=1e-4)


def test_it_is_stopped_and_resumed_bitwise(tmp_path: Path) -> None:
    whole = launch(byol(tmp_path / "whole"))
    cut = replaced(byol(tmp_path / "cut"), {"callbacks": [StopConf(at=2, number=signal.SIGTERM)]})
    assert launch(cut).outcome is Outcome.INTERRUPTED
    again = launch(cut)
    assert sha256(again.folder / "weights.pt") == sha256(whole.folder / "weights.pt")


def test_its_mistakes_are_ours() -> None:
    asked = replaced(byol(), {"optimizer.groups": [GroupConf(parts=["loss.predicter"])]})
    with pytest.raises(ConfigError, match=r"no parameter 'loss\.predicter'; did you mean 'loss\.predictor'"):
        resolve_experiment(asked)
    three = override(byol(), ["data.train.views.num_views=3"])
    with pytest.raises(ConfigError, match="loss: BYOL needs 2 views; the data makes 3"):
        resolve_experiment(three)


def test_what_a_predictor_would_read_is_refused() -> None:
    """It reads what the method gives it."""
    asked = replaced(byol(), {"loss.predictor.feature": "res9", "loss.predictor.input": "images"})
    with pytest.raises(ConfigError) as error:
        resolve_experiment(asked)
    told = str(error.value)
    assert "loss.predictor.feature: has no effect" in told
    assert "loss.predictor.input: has no effect" in told
