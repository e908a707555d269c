"""One optimizer step. This is the whole of what happens to the weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import Enum
from typing import Optional

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ssltyped.types import Batch, Loss, Model, StepOutput


class Precision(Enum):
    """What the forward pass computes in; weights and optimizer stay float32. fp16 scales the loss (GradScaler)."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class StepModule(nn.Module):
    """Model and loss as one module, so that DDP synchronises both, however often a method calls the model."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: Batch) -> StepOutput:
        return self.loss.step(self.model, batch)


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
    ) -> None:
        self.module, self.wrapped, self.optimizer, self.device = module, wrapped, optimizer, device
        self.precision, self.grad_clip = precision, grad_clip
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision is Precision.FP16)

    def __call__(
        self, batches: Sequence[Batch], lr: float, progress: float, on_loss: Callable[[Batch, StepOutput], None]
    ) -> list[StepOutput]:
        """Update once. `progress` in (0, 1] is that after this step; `on_loss` sees each output before backward."""
        model: Model = self.module.model
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        self.optimizer.zero_grad(set_to_none=True)
        outputs = []
        for index, batch in enumerate(batches):
            with self._reduce_if(index == len(batches) - 1):
                output = self.forward(batch)
                on_loss(batch, output)
                torch.autograd.backward(self.scaler.scale(output.loss / len(batches)))
            outputs.append(output)
        self.module.loss.after_backward(model, progress)
        if self.grad_clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.module.parameters(), self.grad_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.module.loss.after_update(model, progress)
        return outputs

    def forward(self, batch: Batch) -> StepOutput:
        """The loss of one batch, in the precision of the run."""
        with self._autocast():
            output: StepOutput = self.wrapped(batch)
        return output

    def _autocast(self) -> AbstractContextManager[object]:
        dtype = {Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}.get(self.precision)
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype=dtype)

    def _reduce_if(self, last: bool) -> AbstractContextManager[object]:
        """Gradients are averaged over the ranks once, with the last batch of a step."""
        wrapped = self.wrapped
        return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) and not last else nullcontext()
