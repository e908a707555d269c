"""The functions around a recipe: what they take, and what they give."""

from collections.abc import Callable
from pathlib import Path

import torch

from recipes.simclr import simclr
from ssltyped.cli.plan import plan
from ssltyped.cli.recipe import load_recipe
from ssltyped.config import build, check, config_for, from_yaml, get, replaced, to_yaml, walk
from ssltyped.config.grammar import expand
from ssltyped.config.overrides import override
from ssltyped.config.resolve import Resolution, resolve
from ssltyped.config.show import show
from ssltyped.engine.trainer import Outcome
from ssltyped.experiment import Experiment
from ssltyped.heads.mlp import MLPHead, MLPHeadConf
from ssltyped.launch import Run, launch, replay
from ssltyped.losses.simclr import SimCLRLoss, SimCLRLossConf
from ssltyped.model.model import SSLModel
from ssltyped.optimizers.rate import RateConf
from ssltyped.optimizers.torch_optim import SGDConf
from ssltyped.resolution import FactFinder, resolve_experiment
from ssltyped.tasks.running import TaskRun
from ssltyped.types import Facts, Inference, Loss, Problem, StepOutput, Task

recipe: Experiment = simclr()


def launching() -> None:
    """Never called by the tests: these would train."""
    run: Run = launch(recipe)
    launch(recipe, ["epochs=1"])
    launch(recipe, ("epochs=1", "seed=3"), name="mine")
    launch(recipe, overrides=["epochs=1"])
    outcome: Outcome = run.outcome
    finished: bool = outcome is Outcome.FINISHED
    metrics: dict[str, float] = run.metrics
    folder: Path = run.folder / "weights.pt"
    model: SSLModel = run.model
    step: StepOutput = replay(folder)
    again: StepOutput = replay("runs/simclr/nan.pt")
    print(finished, metrics, folder, model, step.loss.item(), again.logs)


def launching_a_task(task: Task) -> None:
    """Never called by the tests."""
    run: TaskRun = launch(task, ["n=3"], name="counted")
    print(run.folder / "result.json", run.metrics["count"] + 1)


# override, check and build give what they were given
overridden: Experiment = override(recipe, ["epochs=1", "optimizer=AdamW"])
overridden_part: SimCLRLoss = override(SimCLRLossConf(), ["temperature=0.2"])
combinations: list[list[str]] = expand(["seed=1,2"])
checked: SimCLRLoss = check(SimCLRLossConf(temperature=1))
built: SimCLRLoss = build(SimCLRLossConf(head="projector", chunk_size=8))
temperature: float = build(SimCLRLossConf(head="projector", chunk_size=8)).temperature
head: MLPHead = build(MLPHeadConf(dims=[128], in_dim=4))
out: torch.Tensor = head(torch.zeros(2, 4))
width: int = head.out_dim
optimizer: torch.optim.Optimizer = build(SGDConf(rate=RateConf(lr=0.1)))(head)
text: str = to_yaml(recipe)
read: Experiment = from_yaml(text)
other_seed: Experiment = replaced(recipe, {"seed": 1, "loss.temperature": 0.5})
seed: int = get(recipe, "seed")
paths: list[str] = [path for path, _ in walk(recipe)]

# what is inferred
named: Experiment = load_recipe("recipes.simclr_8node")
resolution: Resolution[Experiment] = resolve_experiment(recipe)
resolved: Experiment = resolve_experiment(recipe, "mine", FactFinder()).config
facts: Facts = resolution.facts
again: Resolution[Experiment] = resolve(resolved, FactFinder())
rules: dict[str, str] = {row.field: row.rule for row in resolution.rows}
inferences: str = resolution.to_json()
shown: str = show(recipe)
planner: Callable[[Experiment, str], str] = plan
problem = Problem(path="loss.temperature", message="is too high")
inference = Inference(field="lr", value=0.1, rule="0.1 x 256 / 256")
loss_again: Callable[..., Loss] = config_for(SimCLRLoss)
