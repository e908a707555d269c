"""How model and method are laid out over the processes: what wraps, reduces, clips, gathers state and loads it.

A strategy is one object, and the only place that knows how parameters and state are spread. In one process and under
DDP every rank holds all of it; what shards them overrides the same methods.
"""

import dataclasses
import inspect
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from enum import Enum

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ssltyped import distributed
from ssltyped.config import raised_by
from ssltyped.distributed.sync_batch_norm import convert_sync_batchnorm
from ssltyped.engine.checkpoint import to_cpu
from ssltyped.model.model import SSLModel
from ssltyped.optimizers.zero import full_state, own_state
from ssltyped.types import Batch, Loss, Moment, Outputs, StepOutput, Trunk


class Product(Enum):
    """Which model a run is for: the one that the method says (the teacher of DINO), or the student in any case."""

    METHOD = "method"
    STUDENT = "student"


class StepModule(nn.Module):
    """Model and loss as one module, so that DDP synchronises both, however often a method calls the model.

    Args:
        model: trunk and heads.
        loss: the method.
    """

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: Batch, moment: Moment) -> StepOutput:
        if not (watched := getattr(self.model, "extra", {})):
            return self.loss.step(self.model, batch, moment)
        passes: list[Outputs] = []
        hook = self.model.register_forward_hook(lambda module, views, found: passes.append(found))
        try:
            output = self.loss.step(self.model, batch, moment)
        finally:
            hook.remove()
        first = passes[0]
        features = {name: first.features[place].detach() for name, place in watched.items()}
        outputs = {name: tuple(one.detach() for one in several) for name, several in first.heads.items()}
        return dataclasses.replace(output, features=features, outputs=outputs)

    @property
    def student(self) -> SSLModel:
        """The model that is trained."""
        assert isinstance(self.model, SSLModel)
        return self.model

    def product(self, which: Product) -> SSLModel:
        """The model that the run is for: what is evaluated and saved."""
        chosen = self.student if which is Product.STUDENT else self.loss.product(self.student)
        assert isinstance(chosen, SSLModel)
        return chosen

    def product_name(self, which: Product) -> str:
        """What that model is, in the words of the papers."""
        return "student" if self.product(which) is self.student else "teacher"


class Strategy:
    """One process: nothing is wrapped, and all state is here.

    Args:
        device: of this process.
        sync_bn_group: ranks that share BatchNorm statistics.
        compiled: trunks are compiled in place (`nn.Module.compile`): no name changes, also not in a checkpoint.
    """

    def __init__(self, device: torch.device, *, sync_bn_group: int = 1, compiled: bool = False) -> None:
        self.device, self._sync_bn_group, self._compiled = device, sync_bn_group, compiled

    def prepare(self, model: SSLModel, loss: Loss) -> StepModule:
        """Model and method on their device: the method sets itself up when the model is where and as it will be."""
        model.to(self.device)
        with raised_by("loss"):
            loss.setup(model)
        module = convert_sync_batchnorm(StepModule(model, loss).to(self.device), self._sync_bn_group)
        assert isinstance(module, StepModule)
        for part in module.modules() if self._compiled else ():
            if isinstance(part, Trunk):
                part.compile()
        return module

    def wrap(self, module: StepModule) -> nn.Module:
        """What is called with a batch in the place of `module`."""
        return module

    def accumulating(self, wrapped: nn.Module, last: bool) -> AbstractContextManager[object]:
        """The block of one batch of a step: gradients are averaged over the ranks with the last one only."""
        return nullcontext()

    def clip(self, module: nn.Module, max_norm: float) -> None:
        """Scale the gradients so that their norm over all parameters is `max_norm` at most."""
        nn.utils.clip_grad_norm_(module.parameters(), max_norm)

    def capture(self, module: StepModule, optimizer: torch.optim.Optimizer) -> dict[str, object]:
        """The state that this rank writes, copied to the CPU (collective): all of it on rank 0, on the others what
        differs there, such as BatchNorm's statistics without synchronisation."""
        gathered = full_state(optimizer)
        if distributed.is_main():
            return {"module": to_cpu(module.state_dict()), "optimizer": to_cpu(gathered)}
        once = {f"loss.{name}" for name in module.loss.same_on_all_ranks}
        every = (name for name, _ in module.named_buffers(remove_duplicate=False))  # a tied layer loads by each name
        buffers = {name for name in every if name not in once}
        return {"buffers": to_cpu({name: value for name, value in module.state_dict().items() if name in buffers})}

    def snapshot(self, module: StepModule, optimizer: torch.optim.Optimizer) -> dict[str, object]:
        """All of the model's state on every rank, and of a shared-out optimizer's this rank's share (collective)."""
        return {"module": to_cpu(module.state_dict()), "optimizer": to_cpu(own_state(optimizer))}

    def restore(self, module: StepModule, optimizer: torch.optim.Optimizer, state: Mapping[str, object]) -> None:
        """Take over what `capture` gave. Raises ValueError or RuntimeError for the state of something else."""
        weights, buffers, moments = state["module"], state.get("buffers", {}), state["optimizer"]
        assert isinstance(weights, dict)
        assert isinstance(buffers, dict)
        assert isinstance(moments, dict)
        module.load_state_dict({**weights, **buffers})
        _load_optimizer(optimizer, moments)


class DDP(Strategy):
    """Every rank holds the whole model; gradients are averaged by DistributedDataParallel around the whole step.

    Buffers are not broadcast: BatchNorm without SyncBN keeps its own statistics a rank (and its checkpoint too).
    """

    def wrap(self, module: StepModule) -> nn.Module:
        if not any(parameter.requires_grad for parameter in module.parameters()):
            return module
        # torch 2.14 renamed broadcast_buffers
        known = inspect.signature(DistributedDataParallel).parameters
        sync = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        # DDP orders its buckets anew after a process's first step unless it looks for unused parameters: the first step
        # after a resume would then add the gradients of more than two ranks in another order, and round otherwise.
        warnings.filterwarnings("ignore", message=".*find_unused_parameters=True was specified.*")
        settings = {sync: False, "find_unused_parameters": True, "gradient_as_bucket_view": True}
        return DistributedDataParallel(module, **settings)  # type: ignore[arg-type]  # by name

    def accumulating(self, wrapped: nn.Module, last: bool) -> AbstractContextManager[object]:
        return nullcontext() if last or not isinstance(wrapped, DistributedDataParallel) else wrapped.no_sync()


def strategy_for(device: torch.device, *, sync_bn_group: int = 1, compiled: bool = False) -> Strategy:
    """The strategy of this process: DDP where there is a process group."""
    joined = torch.distributed.is_available() and torch.distributed.is_initialized()
    return (DDP if joined else Strategy)(device, sync_bn_group=sync_bn_group, compiled=compiled)


def _load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, object]) -> None:
    """Take over moments and counts; weight decay and the like are the recipe's, which `resume=PATH` may change."""
    settings = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    groups = state["param_groups"]
    assert isinstance(groups, list)
    ours, theirs = ([str(one.get("name")) for one in each] for each in (settings, groups))
    if ours != theirs or [set(own) for own in settings] != [set(group) - {"params"} for group in groups]:
        message = f"its parameter groups are not those of {type(optimizer).__name__}"  # torch goes by their places
        raise ValueError(f"{message}: {', '.join(theirs)} there, {', '.join(ours)} here")
    optimizer.load_state_dict(state)
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)
