"""One optimizer step: what reaches the weights, when, and in which precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssltyped.engine.parallel import Precision, Rates
from ssltyped.engine.step import Step
from ssltyped.engine.strategy import StepModule, Strategy
from ssltyped.types import Batch, Carry, Loss, Model, Moment, Outputs, StepOutput

CPU = torch.device("cpu")
FIRST = Moment(0, 2, 1)


class Net(nn.Module):
    """What a method sees as the model."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3)).double()

    def forward(self, views: Sequence[Float[Tensor, "B C H W"]]) -> Outputs:
        return Outputs({"head": (self.layers(torch.cat(list(views))),)}, {})


class PerSample(Loss):
    """Sum over images: the loss of two batches is that of both together. Notes the order of what happens."""

    def __init__(self, happened: list[str]) -> None:
        super().__init__()
        self.happened = happened
        self.dtype: Optional[torch.dtype] = None

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        z = model(batch.views).of("head")
        self.happened.append("step")
        self.dtype = z.dtype
        return StepOutput(loss=z.square().sum(), carry={"images": batch.index})

    def update(self, model: Model, carries: Sequence[Carry], moment: Moment) -> None:
        images = [carry["images"].tolist() for carry in carries]
        self.happened.append(f"update {images} {moment.step}")


def batch_of(*images: int) -> Batch:
    views = torch.stack([torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(i)) for i in images]).double()
    return Batch(views=(views,), index=torch.tensor(images))


def step_of(
    *, lr_scale: float = 1.0, precision: Precision = Precision.FP32, grad_clip: Optional[float] = None
) -> tuple[Step, Net, PerSample]:
    net, loss = Net(), PerSample([])
    module = StepModule(net, loss)
    group = {"params": list(net.parameters()), "lr_scale": lr_scale}
    optimizer = torch.optim.SGD([group], lr=1.0, momentum=0.9)
    step = Step(module=module, strategy=Strategy(CPU), optimizer=optimizer, precision=precision, grad_clip=grad_clip)
    return step, net, loss


def ignore(batch: Batch, output: StepOutput) -> None:
    """For a step that nobody watches."""


def weights(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_two_batches_are_one_of_both() -> None:
    """The gradient of an accumulated step is that of the mean of its losses, over several steps with momentum."""
    accumulated, net, _ = step_of()
    plain = Net()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.01, momentum=0.9)
    for first in (0, 4, 8):
        parts = [batch_of(first, first + 1), batch_of(first + 2, first + 3)]
        accumulated(parts, Rates(0.01), FIRST, ignore)
        z = plain(batch_of(*range(first, first + 4)).views).of("head")
        optimizer.zero_grad()
        torch.autograd.backward(z.square().sum() / 2)
        optimizer.step()
        torch.testing.assert_close(weights(net), weights(plain), rtol=1e-12, atol=1e-14)
    assert not torch.equal(weights(net), weights(Net()))


def test_outputs_of_every_batch() -> None:
    step, net, _ = step_of()
    first = Net()(batch_of(0, 1).views).of("head")
    outputs = step([batch_of(0, 1), batch_of(2, 3)], Rates(0.01), FIRST, ignore)
    assert len(outputs) == 2
    torch.testing.assert_close(outputs[0].loss, first.square().sum())
    assert not torch.equal(weights(net), weights(Net()))


def test_order_of_a_step() -> None:
    """Forward, watchers, backward for each batch; then one update of the method's state, with what all carried."""
    step, net, loss = step_of()
    before = weights(net).clone()

    def on_loss(batch: Batch, output: StepOutput) -> None:
        assert torch.equal(weights(net), before), "the weights are still those that gave the loss"
        loss.happened.append(f"on_loss {batch.index.tolist()} {output.loss.requires_grad}")

    step([batch_of(0), batch_of(1)], Rates(0.01), FIRST, on_loss)
    assert loss.happened == [
        "step", "on_loss [0] True", "step", "on_loss [1] True", "update [[0], [1]] 0",
    ]  # fmt: skip
    assert not torch.equal(weights(net), before)


def test_a_watcher_that_raises_leaves_the_weights() -> None:
    step, net, _ = step_of()
    before = weights(net).clone()

    def refuse(batch: Batch, output: StepOutput) -> None:
        raise RuntimeError("not finite")

    with pytest.raises(RuntimeError, match="not finite"):
        step([batch_of(0)], Rates(0.01), FIRST, refuse)
    assert torch.equal(weights(net), before)


@pytest.mark.parametrize("limit", [1e-3, 0.5, 1e9])
def test_clipping(limit: float) -> None:
    """The norm over all parameters of the accumulated gradient is at most the limit; its direction stays."""
    free, net, _ = step_of()
    clipped, other, _ = step_of(grad_clip=limit)
    start = weights(net).clone()
    batches = [batch_of(0, 1), batch_of(2, 3)]
    free(batches, Rates(1.0), FIRST, ignore)
    clipped(batches, Rates(1.0), FIRST, ignore)
    whole, cut = start - weights(net), start - weights(other)
    assert float(whole.norm()) > 0.5
    torch.testing.assert_close(cut, whole * min(1.0, limit / float(whole.norm())), rtol=1e-5, atol=1e-12)


def test_scale_of_a_group() -> None:
    scaled, net, _ = step_of(lr_scale=0.1)
    plain, other, _ = step_of()
    start = weights(net).clone()
    scaled([batch_of(0)], Rates(0.5), FIRST, ignore)
    plain([batch_of(0)], Rates(0.05), FIRST, ignore)
    torch.testing.assert_close(weights(net), weights(other), rtol=1e-12, atol=0)
    assert not torch.equal(weights(net), start)


def test_the_learning_rate_is_of_this_step() -> None:
    """Not multiplied up from step to step."""
    step, _, _ = step_of(lr_scale=0.5)
    for lr in (0.1, 0.2, 0.05):
        step([batch_of(0)], Rates(lr), FIRST, ignore)
        assert step.optimizer.param_groups[0]["lr"] == lr * 0.5


@pytest.mark.parametrize(
    ("precision", "dtype"), [(Precision.BF16, torch.bfloat16), (Precision.FP16, torch.float16), (Precision.FP32, None)]
)
def test_precision_of_the_forward_pass(precision: Precision, dtype: Optional[torch.dtype]) -> None:
    """Computed in the short type, with weights, gradients and moments in float32."""
    step, net, loss = step_of(precision=precision)
    net.float()
    step.scaler.load_state_dict({**step.scaler.state_dict(), "scale": 16.0})
    batch = Batch(views=(batch_of(0, 1).views[0].float(),), index=torch.tensor([0, 1]))
    exact, plain, _ = step_of()
    plain.float()
    start = weights(net).clone()
    step([batch], Rates(0.01), FIRST, ignore)
    exact([batch], Rates(0.01), FIRST, ignore)
    assert loss.dtype is (dtype or torch.float32)
    kept = [*net.parameters(), *(entry["momentum_buffer"] for entry in step.optimizer.state.values())]
    assert {tensor.dtype for tensor in kept} == {torch.float32}
    torch.testing.assert_close(weights(net) - start, weights(plain) - start, rtol=0.05, atol=1e-3)
    assert float((weights(net) - start).abs().max()) > 0.01


def test_a_step_that_overflows_is_left_out() -> None:
    """fp16: the first scale is too large for this loss, and is halved until it is not; no state moves."""
    step, net, loss = step_of(precision=Precision.FP16)
    net.float()
    batch = Batch(views=(batch_of(0, 1).views[0].float(),), index=torch.tensor([0, 1]))
    start, scale = weights(net).clone(), step.scaler.get_scale()
    step([batch], Rates(0.01), FIRST, ignore)
    assert torch.equal(weights(net), start)
    assert step.scaler.get_scale() == scale / 2
    assert loss.happened == ["step"], "the method's state stays as it was"


def test_loss_scaling_leaves_the_clipped_norm() -> None:
    """fp16: the gradient is unscaled before it is clipped."""
    step, net, _ = step_of(precision=Precision.FP16, grad_clip=0.1)
    step.scaler.load_state_dict({**step.scaler.state_dict(), "scale": 16.0})
    net.float()
    batch = Batch(views=(batch_of(0, 1).views[0].float(),), index=torch.tensor([0, 1]))
    start = weights(net).clone()
    step([batch], Rates(1.0), FIRST, ignore)
    assert float((start - weights(net)).norm()) == pytest.approx(0.1, rel=0.01)
