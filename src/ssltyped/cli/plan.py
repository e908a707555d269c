"""`--plan`: what would run, and why. Nothing runs: shapes go through the parts on torch's meta device."""

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ssltyped import config
from ssltyped.config import ConfigError
from ssltyped.config.hints import brief, failure
from ssltyped.config.resolve import Resolution
from ssltyped.data.blank import blank_batch
from ssltyped.engine.parallel import Place
from ssltyped.engine.strategy import StepModule, Strategy
from ssltyped.experiment import Experiment, build_module, build_optimizer
from ssltyped.launch import misfit
from ssltyped.resolution import FactFinder, resolve_experiment
from ssltyped.types import Moment, Problem, Scheduler, Update

_BARS = "▁▂▃▄▅▆▇█"
_COLUMNS = 60
_MEASURED_BATCH = 64


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on one rank in one step, of tensors that are held at once."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    images: int


def plan(asked: Experiment, name: str, *, strict: bool = False) -> str:
    """The plan as text. Raises `ConfigError` for everything that can be known to be wrong before a run.

    `strict`: what may be unwise is wrong too.
    """
    find = FactFinder()
    resolution = resolve_experiment(asked, name, find, strict=strict)
    if miscounted := find.sources.problems(resolution.config.data, to_run=False):
        raise ConfigError(miscounted)
    lines = [*_part_lines(resolution), *_run_lines(resolution)]
    if wrong := misfit(resolution, Place.from_environment()):
        lines += ["", "not to be started here as it is:", *(f"  {problem}" for problem in wrong)]
    return "\n".join(lines) + "\n"


def _part_lines(resolution: Resolution[Experiment]) -> Iterator[str]:
    resolved = resolution.config
    with torch.device("meta"):
        built = config.build(resolved)
        module, reports = build_module(built, resolution.facts, Strategy(torch.device("meta")), starts=True)
    yield "parts"
    heads = [(f"heads.{name}", head) for name, head in built.heads.items()]
    named: list[tuple[str, nn.Module]] = [("trunk", built.trunk), *heads, ("loss", built.loss)]
    for path, part in named:
        count = sum(parameter.numel() for parameter in part.parameters())
        yield f"  {path:<16} {type(part).__name__:<16} {count:>12,} parameters"
    product = module.product_name(built.product)
    too = "; the student as student.pt" if product != "student" else ""
    yield f"  product          {product}: it is evaluated, and saved as weights.pt{too}"
    yield from (f"  starts with      {report}" for report in reports)
    memory = measure(module, built, resolution)
    yield ""
    ranks = resolution.facts.world_size
    yield f"memory on {f'each of {ranks} ranks' if ranks > 1 else 'the rank'} (estimated, in fp32)"
    for field in dataclasses.fields(memory):
        yield f"  {field.name:<12} {getattr(memory, field.name) / 2**20:>10,.1f} MiB"


def measure(module: StepModule, built: Experiment, resolution: Resolution[Experiment]) -> Memory:
    """Run one step's shapes on the meta device and add up what it holds, in fp32.

    A large batch is measured on a part of it: what a step holds grows with the batch.
    Raises `ConfigError` for parts that do not fit together: the run would fail too, at its first step.
    """
    facts = resolution.facts
    rows = max(2, min(facts.batch_size, _MEASURED_BATCH))  # BatchNorm has several, of this rank or of others
    saved: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        saved[_storage(tensor)] = tensor.untyped_storage()
        return tensor

    try:
        batch = blank_batch(built.data, facts, rows)
        moment = Moment(0, built.steps or 1, facts.steps_per_epoch or 1)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = module(batch, moment)
        output.loss.backward()
        optimizer = build_optimizer(built, module)
        optimizer.step()
        module.loss.update(module.model, [output.carry] * facts.accumulation, moment)
    except ConfigError:
        raise
    except (RuntimeError, ValueError, TypeError) as error:
        raise ConfigError([Problem("", f"one step of this does not fit together: {brief(str(error), 300)}")]) from error
    except (Exception, SystemExit) as error:  # of a part of the user's, whose line is shown
        raise ConfigError([Problem("", f"one step of this fails: {failure(error)}")]) from error
    views = batch.views
    fixed = {_storage(tensor) for tensor in (*module.parameters(), *module.buffers(), *views)}
    activations = sum(storage.nbytes() for key, storage in saved.items() if key not in fixed)
    state = sum(_bytes(v) for entry in optimizer.state.values() for v in entry.values() if isinstance(v, Tensor))
    weights = sum(map(_bytes, module.parameters()))
    images = sum(map(_bytes, views))
    gradients = sum(_bytes(parameter) for parameter in module.parameters() if parameter.requires_grad)
    return Memory(weights, gradients, state, activations * facts.batch_size // rows, images * facts.batch_size // rows)


def _storage(tensor: Tensor) -> int:
    """What tells memory apart: a layer that saves its transposed weight holds no more than the weight."""
    return int(tensor.untyped_storage()._cdata)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _run_lines(resolution: Resolution[Experiment]) -> Iterator[str]:
    """What was inferred, how long it takes, what is written."""
    resolved, facts, saves = resolution.config, resolution.facts, resolution.config.checkpoints
    yield from resolution.lines()
    if remarks := list(config.build(resolved.data).remarks()):
        yield from ("", "images", *(f"  {remark}" for remark in remarks))
    yield from ("", "length")
    per_epoch = f"{facts.steps_per_epoch or 0:,} steps an epoch"
    yield f"  {facts.global_batch_size:,} images a step, {per_epoch}, {resolved.steps:,} steps"
    yield ""
    yield from curve(config.build(resolved.schedule), resolved.epochs or 1)
    yield from ("", f"written to {resolved.output / (resolved.name or '')}")
    yield "  asked.yaml, resolved.yaml, inferences.json; weights.pt and result.json at the end"
    steps = f" and every {saves.every_steps} steps" if saves.every_steps else ""
    when = f"every {saves.every_epochs} epochs{steps}, the newest {saves.keep} kept"
    yield f"  checkpoints/ {when}; resume={resolved.resume}"
    for callback in resolved.callbacks:
        yield f"  {config.part_of(callback).target.__name__}"


def curve(schedule: Scheduler, epochs: int) -> Iterator[str]:
    """The learning rate over the run, as a line of bars from 0 to its peak."""
    points = [index / _COLUMNS for index in range(_COLUMNS)]
    if schedule.update is Update.EPOCH:
        points = [int(point * epochs) / epochs for point in points]
    values = [schedule(point) for point in points]
    peak = max(max(values), 1e-30)
    bars = "".join(_BARS[min(7, int(max(value, 0.0) / peak * 7.999))] for value in values)
    yield f"learning rate: {values[0]:g} at the start, {peak:g} at most, {schedule(1 - 1e-9):.3g} at the end"
    yield f"  {bars}"
