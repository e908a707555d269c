"""What is frozen stays as it is: for ever, or for the first steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from facts import FACTS
from torch import Tensor, nn

from ssltyped.config.resolve import problems_of, resolve
from ssltyped.model.freeze import Freeze, FreezeConf, Frozen, for_ever, hold
from ssltyped.optimizers.lars import LARS
from ssltyped.optimizers.rate import Rate
from ssltyped.optimizers.torch_optim import SGD, AdamW
from ssltyped.types import Facts, Moment, Optimizer


class Net(nn.Module):
    """Two layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.tanh(self.trunk(x)))
        return out


OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    "sgd": lambda: SGD(rate=Rate(lr=0.1), momentum=0.9, weight_decay=0.1),
    "adamw": lambda: AdamW(rate=Rate(lr=0.1), weight_decay=0.1),
    "lars": lambda: LARS(rate=Rate(lr=0.1), weight_decay=0.1),
}


def steps_of_movement(part: str, optimizer: Optimizer, freezes: list[Freeze], steps: int = 7) -> list[bool]:
    """Whether the part moved in each step; the batch of step 3 has another scale, so that gradients differ."""
    net = Net()
    frozen, update = Frozen(net, freezes), optimizer(net)
    moved = []
    for step in range(steps):
        before = net.get_parameter(part).detach().clone()
        update.zero_grad()
        (net(torch.cos(torch.arange(12.0) + step).reshape(3, 4)).square().sum()).backward()
        frozen.drop_gradients(Moment(step, steps, steps))
        update.step()
        moved.append(not torch.equal(before, net.get_parameter(part)))
    return moved


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("steps", [1, 2, 6, 7, 9])
def test_the_first_steps(name: str, steps: int) -> None:
    """No weight decay and no momentum either; the other part moves in every step."""
    freezes = [Freeze(parts=["head"], steps=steps)]
    wanted = [step >= steps for step in range(7)]
    assert steps_of_movement("head.weight", OPTIMIZERS[name](), freezes) == wanted
    assert steps_of_movement("head.bias", OPTIMIZERS[name](), freezes) == wanted
    assert all(steps_of_movement("trunk.weight", OPTIMIZERS[name](), freezes))


def test_each_part_for_its_own_time() -> None:
    freezes = [Freeze(parts=["head.weight", "trunk.bias"], steps=2), Freeze(parts=["trunk"], steps=4)]
    for part, steps in (("head.weight", 2), ("head.bias", 0), ("trunk.bias", 4), ("trunk.weight", 4)):
        assert steps_of_movement(part, OPTIMIZERS["sgd"](), freezes) == [step >= steps for step in range(7)], part


def test_for_ever() -> None:
    freezes = [
        Freeze(parts=["trunk", "heads.0"]),
        Freeze(parts=["heads.1"], steps=3),
        Freeze(parts=["heads.2"], epochs=1),
        Freeze(parts=["heads.3.weight", "loss.predictor"]),
    ]
    assert for_ever(freezes) == ["trunk", "heads.0", "heads.3.weight"]
    assert for_ever(freezes, of_loss=True) == ["loss.predictor"]
    assert all(steps_of_movement("head.weight", OPTIMIZERS["sgd"](), [Freeze(parts=["head"])])), "the model's affair"


class Stepped(nn.Module):
    """A model beside its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.loss = Net(), nn.Module()
        self.loss.predictor = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))


def test_what_is_held_takes_no_gradient_and_stays_in_eval_mode() -> None:
    module = Stepped()
    hold(module, ["loss.predictor", "trunk.bias"])
    still = [name for name, parameter in module.named_parameters() if not parameter.requires_grad]
    assert still == ["model.trunk.bias"] + [f"loss.predictor.{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")]
    assert [name for name, part in module.named_modules() if not part.training] == [
        "loss.predictor", "loss.predictor.0", "loss.predictor.1",
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"no parameter 'loss\.predicter'; did you mean 'loss\.predictor'"):
        hold(module, ["loss.predicter"])


def test_parts_of_the_model_and_of_the_loss_for_a_while() -> None:
    module = Stepped()
    frozen = Frozen(module, [Freeze(parts=["loss.predictor.0", "head.bias"], steps=2)])
    for step in (2, 3):
        for parameter in module.parameters():
            parameter.grad = torch.ones_like(parameter)
        frozen.drop_gradients(Moment(step - 1, 5, 5))
        without = [name for name, parameter in module.named_parameters() if parameter.grad is None]
        names = ["model.head.bias", "loss.predictor.0.weight", "loss.predictor.0.bias"]
        assert without == (names if step == 2 else [])


@pytest.mark.parametrize(("epochs", "steps"), [(1.0, 10), (0.25, 2), (0.01, 1), (3.0, 30)])
def test_steps_follow_from_epochs(epochs: float, steps: int) -> None:
    def facts(_: object) -> Facts:
        return dataclasses.replace(FACTS, num_images=165)

    resolution = resolve(FreezeConf(parts=["trunk"], epochs=epochs), facts)
    assert resolution.config.steps == steps
    assert resolution.rows[0].rule == f"{epochs:g} epochs x 10 steps an epoch"
    assert not resolve(FreezeConf(parts=["trunk"]), facts).rows


def test_what_is_wrong() -> None:
    assert [str(p) for p in problems_of(FreezeConf(parts=[]), FACTS)] == [
        "parts: is empty: name what is frozen, such as trunk"
    ]
    with pytest.raises(ValueError, match="no module and no parameter 'haed'; did you mean 'head'"):
        Frozen(Net(), [Freeze(parts=["haed"], steps=1)])


@pytest.mark.parametrize(("freeze", "field"), [({"epochs": 2.0, "steps": 6}, "epochs"), ({"steps": 7}, "steps")])
def test_longer_than_the_run_is_told(freeze: dict[str, float], field: str) -> None:
    """A part that is to learn later would never do so."""
    asked = FreezeConf(parts=["trunk", "heads"], **freeze)  # type: ignore[arg-type]  # one of both
    (told,) = Freeze.warnings(asked, dataclasses.replace(FACTS, steps=6))
    assert (told.path, told.message) == (field, "trunk, heads never learns: the run has 6 steps in all")
    assert not list(Freeze.warnings(asked, dataclasses.replace(FACTS, steps=8)))
    assert not list(Freeze.warnings(FreezeConf(parts=["trunk"]), dataclasses.replace(FACTS, steps=6)))
