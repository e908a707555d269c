"""Stop on a loss that is not finite, with all that is needed to look into it."""

from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Gt

from ssltyped import distributed
from ssltyped.config import config_for
from ssltyped.types import Batch, Callback, StepOutput, TrainState


class NonFiniteLossError(RuntimeError):
    """The loss was NaN or infinite; `bundle` holds state and batch, for `ssltyped.replay(bundle)`."""

    def __init__(self, message: str, bundle: Path) -> None:
        super().__init__(message)
        self.bundle = bundle


class NaNGuard(Callback):
    """Looks at each loss before its gradient touches the weights; stops the run at the first that is not finite.

    The bundle (`nan_step<step>_rank<r>.pt`) holds the weights and the optimizer as they were before the update,
    the normalised batch, and the step: `ssltyped.replay(bundle)` computes that loss again.
    On a GPU reading the loss waits for it: a few percent of a small model's time, nothing for a large one's.

    Args:
        every_steps: look at every so many steps only.
    """

    every_rank = True

    def __init__(self, *, every_steps: Annotated[int, Gt(0)] = 1) -> None:
        self.every_steps = every_steps

    def on_loss(self, state: TrainState, batch: Batch, output: StepOutput) -> None:
        if state.step % self.every_steps:
            return
        # All ranks stop together: what a strategy spreads over them can only be gathered by all.
        if bool(distributed.all_reduce_max((~torch.isfinite(output.loss.detach())).to(torch.int32))):
            bundle = state.folder / f"nan_step{state.step}_rank{distributed.rank()}.pt"
            here = batch.to(torch.device("cpu"))
            seen = {"views": list(here.views), "index": here.index, "label": here.label, "masks": list(here.masks)}
            torch.save({**state.snapshot(), "batch": seen, "rank": distributed.rank()}, bundle)
            message = f"the loss of step {state.step} is {output.loss.item()} here; the weights are not touched by it"
            raise NonFiniteLossError(f"{message}; to replay the step: ssltyped.replay({str(bundle)!r})", bundle)


NaNGuardConf = config_for(NaNGuard)
