"""Run a recipe: in this process, in several that it starts, or in those that torchrun started."""

import dataclasses
import functools
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import ModuleType
from typing import Optional, overload

import torch

from ssltyped import config, distributed
from ssltyped.config import ConfigError
from ssltyped.config.hints import shown
from ssltyped.config.overrides import override
from ssltyped.config.resolve import Resolution
from ssltyped.engine import places
from ssltyped.engine.checkpoint import CheckpointStore
from ssltyped.engine.folder import Start, prepare, write_result
from ssltyped.engine.in_turn import in_turn
from ssltyped.engine.parallel import Place, device_for, process_group, say, seed_step
from ssltyped.engine.position import Position
from ssltyped.engine.ranks import run_ranks, told
from ssltyped.engine.strategy import Strategy
from ssltyped.engine.trainer import Outcome, Trainer
from ssltyped.experiment import Experiment, build_module, build_trainer
from ssltyped.model.files import write_weights
from ssltyped.model.model import SSLModel
from ssltyped.optimizers.rate import lr_path, peak_lr
from ssltyped.resolution import FactFinder, resolve_experiment
from ssltyped.tasks.running import TaskRun, is_task, run_task
from ssltyped.types import Batch, Facts, Problem, StepOutput, Task
from ssltyped.weights.pretrained import of_experiment, said_of


@dataclasses.dataclass(frozen=True)
class Run:
    """What a launched recipe gave: how it ended, where it wrote, its metrics, and the trained model.

    `model` is the one that the method is for (`Loss.product`), in eval mode.
    `metrics` has the newest value of each metric, `first` the first one: of the untrained model, for an
    evaluation at the start.
    """

    outcome: Outcome
    folder: Path
    metrics: dict[str, float]
    first: dict[str, float]
    model: SSLModel


@overload
def launch(recipe: Experiment, overrides: Sequence[str] = (), *, name: str = "run", strict: bool = False) -> Run: ...
@overload
def launch(recipe: Task, overrides: Sequence[str] = (), *, name: str = "run", strict: bool = False) -> TaskRun: ...
def launch(
    recipe: Experiment | Task, overrides: Sequence[str] = (), *, name: str = "run", strict: bool = False
) -> Run | TaskRun:
    """Train a recipe, or run one that is a task. `name` is its folder below `output`, unless it sets one itself.

    `strict`: what may be unwise, which else is told, is an error.

    Raises `ConfigError` before anything is written if the recipe cannot run: wrong values, contradictions with
    what is inferred, more processes than there are.
    """
    _refuse_what_is_no_recipe(recipe)
    if is_task(recipe):
        return run_task(override(recipe, overrides), name, strict=strict)
    asked, find = override(recipe, overrides), FactFinder()
    with in_turn(Place.from_environment(), find.sources.findings, find.sources.take):
        resolution = resolve_experiment(asked, name, find, strict=strict)
    return _run(asked, resolution, find)


def _run(asked: Experiment, resolution: Resolution[Experiment], find: FactFinder) -> Run:
    """Train what was asked for, as it was resolved."""
    resolved, place = resolution.config, Place.from_environment()
    if wrong := hindrances(resolution, find):
        raise ConfigError(wrong)
    if place is None and resolution.facts.world_size > 1:
        return _start_processes(asked, resolution, find)
    place = place or Place(rank=0, world_size=1, local_rank=0, local_world_size=1)
    device = device_for(resolved.distributed.device, place.local_rank)
    with process_group(place, device, resolved.distributed.timeout_s), told(), ExitStack() as held:
        for warning in resolution.warnings:
            say(f"warning: {warning}")
        start = distributed.first_rank_does(lambda: held.enter_context(_prepare(asked, resolution)), ConfigError)
        trainer = build_trainer(
            resolved, device=device, folder=start.folder, facts=resolution.facts, starts=start.resume is None
        )
        outcome = trainer.fit(start.resume)
        if distributed.is_main():
            if outcome is Outcome.FINISHED:
                _write_models(trainer, start.folder, resolution)
            write_result(start.folder, outcome.value, trainer.metrics, trainer.first)
        distributed.barrier()
    model = trainer.model.eval()
    return Run(outcome, start.folder, metrics=dict(trainer.metrics), first=dict(trainer.first), model=model)


def _refuse_what_is_no_recipe(recipe: object) -> None:
    """A module, a function and a name stand for a recipe on the command line; here they are none."""
    if config.is_config(recipe) and issubclass(config.part_of(recipe).kind, Experiment | Task):
        return
    got = f"got the {type(recipe).__name__} {getattr(recipe, '__name__', '')}".rstrip()
    if isinstance(recipe, ModuleType):
        message = f"{got}: give the recipe in it, {recipe.__name__}.recipe"
    elif isinstance(recipe, str):
        message = f"got {shown(recipe)}: give the recipe itself; ssltyped.cli.recipe.load_recipe finds one by its name"
    elif callable(recipe):
        message = f"{got}: give what it makes, {getattr(recipe, '__name__', 'RECIPE')}()"
    else:
        message = f"{got}: want ExperimentConf(...)"
    raise ConfigError([Problem("recipe", message)])


def _write_models(trainer: Trainer, folder: Path, resolution: Resolution[Experiment]) -> None:
    """The model that the run is for as weights.pt, and if that is another than the student, this too, as student.pt.

    Each says what it is, so that it can be used without the rest of the folder.
    """
    facts, itself = resolution.facts, said_of(of_experiment(folder, resolution.config))
    about: dict[str, str | int] = {"method": type(trainer.loss).__name__, "step": trainer.step, **itself}
    if facts.uses_labels and facts.classes and not facts.pretext:
        about["classes"] = "\n".join(facts.classes)
    if trainer.model is not trainer.student:
        write_weights(folder / "student.pt", trainer.student, {"product": "student", **about})
    write_weights(folder / "weights.pt", trainer.model, {"product": trainer.product_name, **about})


def _prepare(asked: Experiment, resolution: Resolution[Experiment]) -> AbstractContextManager[Start]:
    resolved = resolution.config
    assert resolved.name is not None
    assert resolved.steps is not None
    gone = [(number, load.path) for number, load in enumerate(resolved.init) if not load.path.exists()]
    return prepare(
        output=resolved.output,
        name=resolved.name,
        resume=resolved.resume,
        asked=config.to_yaml(asked),
        resolved=config.to_yaml(resolved),
        inferences=resolution.to_json(),
        end=Position.at_end(resolved.steps, resolution.facts),
        lacks=[Problem(f"init.{number}.path", f"{path} does not exist") for number, path in gone],
    )


# --- several processes ----------------------------------------------------------------------------------------


def hindrances(resolution: Resolution[Experiment], find: FactFinder) -> list[Problem]:
    """Why a run cannot start here although its recipe can be planned; empty if it can."""
    resolved = resolution.config
    return (
        misfit(resolution, Place.from_environment())
        or _strangers(resolved, resolution.facts)
        or find.sources.problems(resolved.data, to_run=True)
    )


def misfit(resolution: Resolution[Experiment], place: Optional[Place]) -> list[Problem]:
    """Why the processes that a recipe wants are not here, and the two ways on; empty if they are."""
    return places.misfit(resolution.config.distributed, place, functools.partial(_fitting, resolution))


def _fitting(resolution: Resolution[Experiment], procs: int) -> str:
    """The overrides that make a recipe fit, and what they change."""
    changes, text = ["distributed.nodes=1", f"distributed.num_procs={procs}"], places.fitting(procs)
    before = resolution.config
    forget = {row.field: None for row in resolution.rows if config.is_config(config.get(before, row.field)) is False}
    try:
        after = resolve_experiment(override(config.replaced(before, forget), changes)).config
    except ConfigError:
        return text
    pairs = [(name, config.get(before, name), config.get(after, name)) for name in ("global_batch_size", "steps")]
    pairs.append((f"optimizer.{lr_path(before.optimizer)}", peak_lr(before.optimizer), peak_lr(after.optimizer)))
    return text + ", which changes " + ", ".join(f"{name} {old:,} -> {new:,}" for name, old, new in pairs if old != new)


def _strangers(resolved: Experiment, facts: Facts) -> list[Problem]:
    """The parts that other processes, of ranks or of workers, would need and cannot import."""
    splits = [split for split in (resolved.data.train, resolved.data.val) if split is not None]
    workers = ["data."] if any(split.num_workers for split in splits) else []
    return list(places.defined_in_main(resolved, [""] if facts.world_size > 1 else workers))


def _start_processes(asked: Experiment, resolution: Resolution[Experiment], find: FactFinder) -> Run:
    """One process a rank on this machine; signals are passed on, so that all of them save."""
    resolved = resolution.config
    with _prepare(asked, resolution) as start:  # a mistake is found here, and every process takes this folder
        folder, resumed_from = start.folder, start.resume
        resume = "auto" if resolved.resume == "never" else resolved.resume
        named = config.replaced(asked, {"name": str(folder.relative_to(resolved.output)), "resume": resume})
        body = functools.partial(_launch_rank, found=find.sources.findings())
        run_ranks(body, config.to_yaml(named), resolution.facts.world_size)
        result = json.loads((folder / "result.json").read_text())
        newest = CheckpointStore(folder / "checkpoints").newest() or resumed_from
        assert newest is not None, "a run saves at its end, and when it is interrupted"
        state = torch.load(newest / "state.pt", map_location="cpu", weights_only=True)
    built = config.build(resolved)
    module, _ = build_module(built, resolution.facts, Strategy(torch.device("cpu")))
    module.load_state_dict(state["module"])
    model = module.product(built.product).eval()
    return Run(Outcome(result["outcome"]), folder, metrics=result["metrics"], first=result["first"], model=model)


def _launch_rank(asked: str, found: str) -> None:
    """The body of one of our processes, which is as if torchrun had started it; `found`: what is known of images."""
    recipe, find = config.from_yaml(asked), FactFinder()
    find.sources.take(found)
    _run(recipe, resolve_experiment(recipe, find=find), find)


# --- replay ---------------------------------------------------------------------------------------------------


def replay(bundle: str | Path) -> StepOutput:
    """Compute the step again that `NaNGuard` stopped at, on the CPU: the same weights, batch and random numbers.

    Of a run on several ranks it sees this rank's batch alone: a loss that gathers, and SyncBatchNorm, then give
    another value.
    """
    path = Path(bundle)
    saved_config = config.from_yaml((path.parent / "resolved.yaml").read_text())
    resolved = config.replaced(saved_config, {"distributed.sync_bn_group": 1})
    saved = torch.load(path, weights_only=True)
    trainer = build_trainer(
        resolved, device=torch.device("cpu"), folder=path.parent, facts=FactFinder()(resolved), starts=False
    )
    trainer.restore(saved)
    seed_step(resolved.seed, saved["step"], saved["rank"], trainer.device, saved["part"])
    batch = saved["batch"]
    views, masks = tuple(batch["views"]), tuple(batch["masks"])
    return trainer.forward(Batch(views=views, index=batch["index"], label=batch["label"], masks=masks))
