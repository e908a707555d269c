"""One optimizer step. This is the whole of what happens to the weights."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Optional

import torch

from ssltyped.engine.parallel import Precision, Rates, autocast
from ssltyped.engine.strategy import StepModule, Strategy
from ssltyped.model.freeze import Frozen
from ssltyped.types import Batch, Moment, Signals, StepOutput


class Step:
    """Forward, backward, update, over `accumulation` batches of this rank."""

    def __init__(
        self,
        *,
        module: StepModule,
        strategy: Strategy,
        optimizer: torch.optim.Optimizer,
        precision: Precision = Precision.FP32,
        grad_clip: Optional[float] = None,
        frozen: Optional[Frozen] = None,
    ) -> None:
        self.module, self.strategy, self.optimizer, self.device = module, strategy, optimizer, strategy.device
        self.precision, self.grad_clip, self.frozen = precision, grad_clip, frozen
        self.wrapped = strategy.wrap(module)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision is Precision.FP16)

    def __call__(
        self, batches: Sequence[Batch], rates: Rates, moment: Moment, on_loss: Callable[[Batch, StepOutput], None]
    ) -> list[StepOutput]:
        """Update once. `on_loss` sees each output before backward.

        A step whose gradients overflowed in fp16 moves nothing: neither the weights nor the state of the method.
        """
        rates.set(self.optimizer)
        self.optimizer.zero_grad(set_to_none=True)
        outputs = []
        for index, batch in enumerate(batches):
            with self.strategy.accumulating(self.wrapped, index == len(batches) - 1):
                output = self.forward(batch, moment)
                on_loss(batch, output)
                output = dataclasses.replace(output, features={}, outputs={}, signals=Signals())  # seen, and let go
                torch.autograd.backward(self.scaler.scale(output.loss / len(batches)))
            outputs.append(output)
        self.scaler.unscale_(self.optimizer)
        if self.frozen is not None:
            self.frozen.drop_gradients(moment)
        if self.grad_clip is not None:
            self.strategy.clip(self.module, self.grad_clip)
        self.scaler.step(self.optimizer)
        scale = self.scaler.get_scale()
        self.scaler.update()
        if self.scaler.get_scale() >= scale:  # it falls when the step was skipped
            self.module.loss.update(self.module.model, [output.carry for output in outputs], moment)
        return outputs

    def forward(self, batch: Batch, moment: Moment) -> StepOutput:
        """The loss of one batch, in the precision of the run."""
        with autocast(self.precision, self.device):
            output: StepOutput = self.wrapped(batch, moment)
        return output
