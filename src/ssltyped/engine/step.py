"""One optimizer step. This is the whole of what happens to the weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Optional

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ssltyped.engine.parallel import Precision, Rates, StepModule
from ssltyped.model.freeze import Frozen
from ssltyped.types import Batch, StepOutput


class Step:
    """Forward, backward, update, over `accumulation` batches of this rank."""

    def __init__(
        self,
        *,
        module: StepModule,
        wrapped: nn.Module,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        precision: Precision = Precision.FP32,
        grad_clip: Optional[float] = None,
        frozen: Optional[Frozen] = None,
    ) -> None:
        self.module, self.wrapped, self.optimizer, self.device = module, wrapped, optimizer, device
        self.precision, self.grad_clip, self.frozen = precision, grad_clip, frozen
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision is Precision.FP16)

    def __call__(
        self,
        batches: Sequence[Batch],
        rates: Rates,
        progress: float,
        on_loss: Callable[[Batch, StepOutput], None],
    ) -> list[StepOutput]:
        """Update once. `progress` in (0, 1] is that after this step; `on_loss` sees each output before backward."""
        model, loss = self.module.model, self.module.loss
        rates.set(self.optimizer)
        self.optimizer.zero_grad(set_to_none=True)
        outputs = []
        for index, batch in enumerate(batches):
            with self._reduce_if(index == len(batches) - 1):
                output = self.forward(batch)
                on_loss(batch, output)
                torch.autograd.backward(self.scaler.scale(output.loss / len(batches)))
            outputs.append(output)
        self.scaler.unscale_(self.optimizer)
        loss.after_backward(model, progress)
        if self.frozen is not None:
            self.frozen.drop_gradients(progress)
        if self.grad_clip is not None:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.grad_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        loss.after_update(model, progress)
        return outputs

    def forward(self, batch: Batch) -> StepOutput:
        """The loss of one batch, in the precision of the run."""
        dtype = {Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}.get(self.precision)
        with nullcontext() if dtype is None else torch.autocast(self.device.type, dtype=dtype):
            output: StepOutput = self.wrapped(batch)
        return output

    def _reduce_if(self, last: bool) -> AbstractContextManager[object]:
        """Gradients are averaged over the ranks once, with the last batch of a step."""
        wrapped = self.wrapped
        return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) and not last else nullcontext()
