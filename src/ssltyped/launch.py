"""Run a recipe: in this process, in several that it starts, or in those that torchrun started."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Optional

import torch

from ssltyped import config, distributed
from ssltyped.config import ConfigError
from ssltyped.config.overrides import override
from ssltyped.config.resolve import Resolution
from ssltyped.engine.checkpoint import CheckpointStore
from ssltyped.engine.folder import Start, prepare, write_result
from ssltyped.engine.parallel import Device, Place, device_for, process_group, seed_step
from ssltyped.engine.strategy import Strategy
from ssltyped.engine.trainer import Outcome
from ssltyped.experiment import Experiment, FactFinder, build_module, build_trainer, resolve_experiment
from ssltyped.model.files import write_weights
from ssltyped.model.model import SSLModel
from ssltyped.optimizers.rate import lr_path, peak_lr
from ssltyped.types import Batch, Problem, StepOutput

_ABORTED = 130
_MISTAKE = 2


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


def launch(recipe: Experiment, overrides: Sequence[str] = (), *, name: str = "run") -> Run:
    """Train a recipe. `name` is the folder of the run below `output`, unless the recipe sets one itself.

    Raises `ConfigError` before anything is written if the recipe cannot run: wrong values, contradictions with
    what is inferred, more processes than there are.
    """
    asked = override(recipe, overrides)
    find = FactFinder()
    resolution = resolve_experiment(asked, name, find)
    resolved, place = resolution.config, Place.from_environment()
    if wrong := misfit(resolution, place) or find.data_problems(resolved):
        raise ConfigError(wrong)
    if place is None and resolution.facts.world_size > 1:
        return _start_processes(asked, resolution)
    place = place or Place(rank=0, world_size=1, local_rank=0, local_world_size=1)
    device = device_for(resolved.distributed.device, place.local_rank)
    with process_group(place, device, resolved.distributed.timeout_s):
        start = _agree_on_start(asked, resolution)
        trainer = build_trainer(
            resolved, device=device, folder=start.folder, facts=resolution.facts, starts=start.resume is None
        )
        outcome = trainer.fit(start.resume)
        if distributed.is_main():
            if outcome is Outcome.FINISHED:
                write_weights(
                    start.folder / "weights.pt",
                    trainer.model,
                    {"product": trainer.product_name, "method": type(trainer.loss).__name__, "step": trainer.step},
                )
            write_result(start.folder, outcome.value, trainer.metrics, trainer.first)
        distributed.barrier()
    model = trainer.model.eval()
    return Run(outcome, start.folder, metrics=dict(trainer.metrics), first=dict(trainer.first), model=model)


def _agree_on_start(asked: Experiment, resolution: Resolution[Experiment]) -> Start:
    """Rank 0 prepares the folder; every rank takes its answer, also if it is an error."""
    answer: list[object] = [None]
    if distributed.is_main():
        try:
            answer = [_prepare(asked, resolution)]
        except ConfigError as error:
            answer = [error.problems]
    if distributed.world_size() > 1:
        torch.distributed.broadcast_object_list(answer)
    if isinstance(answer[0], list):
        raise ConfigError(answer[0])
    assert isinstance(answer[0], Start)
    return answer[0]


def _prepare(asked: Experiment, resolution: Resolution[Experiment]) -> Start:
    resolved = resolution.config
    assert resolved.name is not None
    return prepare(
        output=resolved.output,
        name=resolved.name,
        resume=resolved.resume,
        asked=config.to_yaml(asked),
        resolved=config.to_yaml(resolved),
        inferences=resolution.to_json(),
    )


# --- several processes ----------------------------------------------------------------------------------------


def misfit(resolution: Resolution[Experiment], place: Optional[Place]) -> list[Problem]:
    """Why the processes that a recipe wants are not here, and the two ways on; empty if they are."""
    wanted = resolution.config.distributed
    nodes, procs = wanted.nodes, wanted.num_procs
    if wanted.device is Device.CUDA and not torch.cuda.device_count():
        return [
            Problem("distributed.device", "got cuda, and there is no GPU here: distributed.device=cpu trains without")
        ]
    if place is not None:
        if (place.world_size, place.local_world_size) == (nodes * procs, procs):
            return []
        started = f"torchrun started {place.world_size} processes, {place.local_world_size} on this node"
        return [
            Problem(
                "distributed",
                f"{started}; the recipe wants {nodes} nodes x {procs}: set distributed.nodes="
                f"{place.world_size // place.local_world_size} distributed.num_procs={place.local_world_size}",
            )
        ]
    on_gpus = wanted.device is Device.CUDA or (wanted.device is Device.AUTO and torch.cuda.is_available())
    here = torch.cuda.device_count() if on_gpus else max(os.cpu_count() or 1, 2)
    if nodes == 1 and procs <= here:
        return []
    unit = "GPUs" if on_gpus else "CPU cores (no GPU)"
    return [
        Problem(
            "distributed", f"the recipe wants {nodes} nodes x {procs} processes; here is 1 node with {here} {unit}"
        ),
        Problem(
            "  either",
            f"start it on each of the {nodes} nodes: torchrun --nnodes={nodes} --nproc-per-node={procs} "
            "--rdzv-backend=c10d --rdzv-endpoint=FIRST_NODE:29500 -m ssltyped.run RECIPE [OVERRIDE ...]",
        ),
        Problem("  or", _fitting(resolution, min(procs, here))),
    ]


def _fitting(resolution: Resolution[Experiment], procs: int) -> str:
    """The overrides that make a recipe fit, and what they change."""
    changes = ["distributed.nodes=1", f"distributed.num_procs={procs}"]
    text = "make it fit: " + " ".join(changes)
    before = resolution.config
    forget = {row.field: None for row in resolution.rows if config.is_config(config.get(before, row.field)) is False}
    try:
        after = resolve_experiment(override(config.replaced(before, forget), changes)).config
    except ConfigError:
        return text
    pairs = [(name, config.get(before, name), config.get(after, name)) for name in ("global_batch_size", "steps")]
    lr = f"optimizer.{lr_path(before.optimizer)}"
    pairs.append((lr, peak_lr(before.optimizer), peak_lr(after.optimizer)))
    return text + ", which changes " + ", ".join(f"{name} {old:,} -> {new:,}" for name, old, new in pairs if old != new)


def _start_processes(asked: Experiment, resolution: Resolution[Experiment]) -> Run:
    """One process a rank on this machine; signals are passed on, so that all of them save."""
    resolved = resolution.config
    if strangers := [path for path, part in config.walk(resolved) if type(part).__module__ == "__main__"]:
        message = "is defined in __main__, which other processes cannot import: move it to a module"
        raise ConfigError([Problem(path, message) for path in strangers])
    start = _prepare(asked, resolution)  # a mistake is found here, and every process takes this folder
    folder, resumed_from = start.folder, start.resume
    resume = "auto" if resolved.resume == "never" else resolved.resume
    named = config.replaced(asked, {"name": str(folder.relative_to(resolved.output)), "resume": resume})
    world_size = resolution.facts.world_size
    with tempfile.TemporaryDirectory() as told:
        arguments = (world_size, _free_port(), config.to_yaml(named), told)
        processes = torch.multiprocessing.spawn(_worker, args=arguments, nprocs=world_size, join=False)  # type: ignore[no-untyped-call]  # torch's
        assert processes is not None
        with _passing_signals_on([process.pid or 0 for process in processes.processes]) as passed_on:
            _join(processes, passed_on, Path(told))
    result = json.loads((folder / "result.json").read_text())
    newest = CheckpointStore(folder / "checkpoints").newest() or resumed_from
    assert newest is not None, "a run saves at its end, and when it is interrupted"
    built = config.build(resolved)
    module, _ = build_module(built, resolution.facts, Strategy(torch.device("cpu")))
    module.load_state_dict(torch.load(newest / "state.pt", map_location="cpu", weights_only=True)["module"])
    model = module.product(built.product).eval()
    return Run(Outcome(result["outcome"]), folder, metrics=result["metrics"], first=result["first"], model=model)


def _join(processes: torch.multiprocessing.ProcessContext, passed_on: Sequence[int], told: Path) -> None:
    """Until all have ended. One that fails ends the others; so does one that a second Ctrl-C aborts, or that a
    signal ends which comes before it listens. A mistake that one leaves in the folder `told` is raised here."""
    try:
        while not processes.join():
            pass
    except torch.multiprocessing.ProcessExitedException as error:
        if error.exit_code == _ABORTED or (passed_on and error.signal_name is not None):
            raise KeyboardInterrupt from error
        mistake = _mistake_file(told, error.error_index)
        if error.exit_code == _MISTAKE and mistake.exists():
            raise ConfigError([Problem(*pair) for pair in json.loads(mistake.read_text())]) from error
        raise


def _mistake_file(told: Path, rank: int) -> Path:
    return told / f"rank_{rank}.json"


def _worker(rank: int, world_size: int, port: int, asked: str, told: str) -> None:
    """The body of one of our processes, which is as if torchrun had started it.

    What it finds wrong with the config goes into the folder `told`: the user reads it from the first process.
    """
    os.environ.update(
        {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)},
        LOCAL_WORLD_SIZE=str(world_size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
    )  # fmt: skip
    if not torch.cuda.is_available():
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // world_size))
    try:
        launch(config.from_yaml(asked))
    except KeyboardInterrupt:  # which torch would take for a good end, and the other ranks would wait
        sys.exit(_ABORTED)
    except ConfigError as error:
        _mistake_file(Path(told), rank).write_text(json.dumps([(one.path, one.message) for one in error.problems]))
        sys.exit(_MISTAKE)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _passing_signals_on(pids: Sequence[int]) -> Iterator[list[int]]:
    """Within the block SIGTERM and Ctrl-C go to these processes too; gives the list of those that came."""
    passed_on: list[int] = []

    def forward(number: int, frame: Optional[FrameType]) -> None:
        passed_on.append(number)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    previous = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield passed_on
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


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
    seed_step(resolved.seed, saved["step"], saved["rank"], trainer.device)
    batch = saved["batch"]
    views, masks = tuple(batch["views"]), tuple(batch["masks"])
    return trainer.forward(Batch(views=views, index=batch["index"], label=batch["label"], masks=masks))
