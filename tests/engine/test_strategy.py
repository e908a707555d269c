"""What wraps, gathers, compiles and restores: in one process and under DDP."""

from __future__ import annotations

import pytest
import torch
from methods import METHODS
from ranks import run_on_ranks
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ssltyped import distributed
from ssltyped.config import build
from ssltyped.engine.strategy import Product, StepModule, Strategy, strategy_for
from ssltyped.heads.mlp import MLPHead
from ssltyped.losses.dino import DINOLoss
from ssltyped.losses.simclr import SimCLRLoss
from ssltyped.model.model import SSLModel
from ssltyped.optimizers.groups import Group
from ssltyped.optimizers.rate import Rate
from ssltyped.optimizers.torch_optim import AdamW
from ssltyped.resolution import resolve_experiment
from ssltyped.trunks.resnet import ResNet, Stem
from ssltyped.types import Batch, Loss, Model, Moment, StepOutput

CPU = torch.device("cpu")
AT = Moment(0, 1, 1)


def test_one_process_needs_no_wrapping() -> None:
    module, strategy = twice(), strategy_for(CPU)
    assert type(strategy) is Strategy
    assert strategy.wrap(module) is module


class Layer(nn.Module):
    """A layer and statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(3, 3, dtype=torch.float64), nn.BatchNorm1d(3, dtype=torch.float64)


class Twice(Loss):
    """Calls the model's layer twice: what a loss with several passes looks like to DDP."""

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        assert isinstance(model, Layer)
        (x,) = batch.views
        product = model.norm(model.layer(x)) * model.layer(x * 2)
        return StepOutput(loss=product.square().mean())


def twice() -> StepModule:
    torch.manual_seed(0)
    return StepModule(Layer(), Twice())


def batch(x: Tensor) -> Batch:
    return Batch(views=(x,), index=torch.arange(len(x)))


def step_on_rank(x: list[Tensor]) -> tuple[list[Tensor], Tensor, bool]:
    module, strategy = twice(), strategy_for(CPU)
    wrapped = strategy.wrap(module)
    for _ in range(2):  # buffers would be broadcast at the start of the second
        module.zero_grad()
        wrapped(batch(x[distributed.rank()]), AT).loss.backward()
    mean = module.get_buffer("model.norm.running_mean")
    grads = [p.grad for p in module.parameters() if p.grad is not None]
    return grads, mean, isinstance(wrapped, DistributedDataParallel)


def test_gradients_are_averaged_and_buffers_are_not() -> None:
    x = [torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(rank)) for rank in range(2)]
    (grads, mean, ddp), (grads_1, mean_1, _) = run_on_ranks(step_on_rank, 2, x)
    assert ddp
    assert len(grads) == 4
    assert all(torch.equal(a, b) for a, b in zip(grads, grads_1, strict=True))
    assert not torch.equal(mean, mean_1)
    alone = [grads_alone(part) for part in x]
    for got, *own in zip(grads, *alone, strict=True):
        torch.testing.assert_close(got, sum(own, torch.zeros_like(got)) / 2, rtol=1e-12, atol=1e-14)


def grads_alone(x: Tensor) -> list[Tensor]:
    module = twice()
    for _ in range(2):
        module.zero_grad()
        module(batch(x), AT).loss.backward()
    return [p.grad for p in module.parameters() if p.grad is not None]


def frozen_on_rank() -> bool:
    module = twice().requires_grad_(False)
    return strategy_for(CPU).wrap(module) is module


def test_nothing_to_train_needs_no_ddp() -> None:
    assert run_on_ranks(frozen_on_rank, 2) == [True, True]


def small() -> SSLModel:
    torch.manual_seed(0)
    trunk = ResNet(depth=18, width_multiplier=0.0625, stem=Stem.SMALL)
    return SSLModel(trunk=trunk, heads={"projector": MLPHead(dims=[8], in_dim=32)}, extra=["res3"])


def images() -> Batch:
    views = tuple(torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(v)) for v in range(2))
    return Batch(views=views, index=torch.arange(4))


def test_the_product_is_the_teacher_where_the_method_says_so() -> None:
    dino = DINOLoss(head="projector", num_prototypes=8, temperature_warmup_steps=0)
    module = Strategy(CPU).prepare(small(), dino)
    assert module.product(Product.METHOD) is dino.teacher.model
    assert (module.product_name(Product.METHOD), module.product_name(Product.STUDENT)) == ("teacher", "student")
    assert module.product(Product.STUDENT) is module.student
    simclr = Strategy(CPU).prepare(small(), SimCLRLoss(head="projector", chunk_size=8))
    assert simclr.product_name(Product.METHOD) == "student"


def test_features_of_the_first_pass_are_handed_on() -> None:
    """Those that are watched, detached; the rows of view 0 come first."""
    module = Strategy(CPU).prepare(small(), SimCLRLoss(head="projector", chunk_size=8))
    output = module(images(), AT)
    (res3,) = module.student.trunk(torch.cat(images().views), ["res3"])
    assert list(output.features) == ["res3"]
    assert output.features["res3"].shape == res3.shape
    assert not output.features["res3"].requires_grad


@pytest.mark.slow
def test_a_compiled_trunk_keeps_its_names_and_numbers() -> None:
    plain = Strategy(CPU).prepare(small(), SimCLRLoss(head="projector", chunk_size=8))
    compiled = Strategy(CPU, compiled=True).prepare(small(), SimCLRLoss(head="projector", chunk_size=8))
    assert list(compiled.state_dict()) == list(plain.state_dict())
    got, want = compiled(images(), AT).loss, plain(images(), AT).loss
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_what_is_captured_is_restored() -> None:
    module, other = (Strategy(CPU).prepare(small(), SimCLRLoss(head="projector", chunk_size=8)) for _ in range(2))
    optimizers = [torch.optim.SGD(one.parameters(), lr=0.1, momentum=0.9) for one in (module, other)]
    module(images(), AT).loss.backward()
    optimizers[0].step()
    state = Strategy(CPU).capture(module, optimizers[0])
    Strategy(CPU).restore(other, optimizers[1], state)
    for name, value in module.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
    assert optimizers[1].state_dict()["state"].keys() == optimizers[0].state_dict()["state"].keys()
    wrong = torch.optim.AdamW(other.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="its parameter groups are not those of AdamW"):
        Strategy(CPU).restore(other, wrong, state)


class Tied(Layer):
    """A layer whose norm has a second name, with a buffer whose name starts as that of the queue does."""

    def __init__(self) -> None:
        super().__init__()
        self.again = self.norm


class Queueing(Twice):
    """Keeps a queue that is equal on all ranks, and what is not."""

    same_on_all_ranks = ("queue",)

    def __init__(self) -> None:
        super().__init__()
        self.queue, self.queued = nn.Buffer(torch.zeros(2)), nn.Buffer(torch.zeros(2))


def saved_and_restored_on_rank() -> tuple[list[str], bool, bool]:
    """What rank 1 saves, and whether it has its own statistics back by both names, and its own buffer."""
    module, strategy = StepModule(Tied(), Queueing()), strategy_for(CPU)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    rank = distributed.rank()
    module.get_buffer("model.norm.running_mean").fill_(rank + 1)
    module.get_buffer("loss.queued").fill_(rank + 1)
    states: list[object] = [None, None]
    torch.distributed.all_gather_object(states, strategy.capture(module, optimizer))
    of_rank_0, own = states[0], states[rank]
    assert isinstance(of_rank_0, dict)
    assert isinstance(own, dict)
    new = StepModule(Tied(), Queueing())
    strategy.restore(new, torch.optim.SGD(new.parameters(), lr=0.1), {**of_rank_0, **own})
    means = [new.state_dict()[f"model.{name}.running_mean"] for name in ("norm", "again")]
    back = all(bool((mean == rank + 1).all()) for mean in means)
    return sorted(own.get("buffers", {})), back, bool((new.get_buffer("loss.queued") == rank + 1).all())


def test_a_tied_norm_and_a_buffer_named_like_the_queue_keep_their_ranks_values() -> None:
    (on_0, *right_0), (on_1, *right_1) = run_on_ranks(saved_and_restored_on_rank, 2)
    assert right_0 == right_1 == [True, True]
    assert on_0 == [], "rank 0 saves all of it elsewhere"
    counts = ("num_batches_tracked", "running_mean", "running_var")
    assert on_1 == ["loss.queued", *(f"model.{name}.{count}" for name in ("again", "norm") for count in counts)]


def test_moments_do_not_go_to_other_groups() -> None:
    """torch goes by the places of groups: two of one size would change their moments."""
    groups = [Group(parts=["trunk.conv1"]), Group(parts=["trunk.bn1"])]
    made = []
    for order in (groups, groups[::-1]):
        module = Strategy(CPU).prepare(small(), SimCLRLoss(head="projector", chunk_size=8))
        made.append((module, AdamW(groups=order, rate=Rate(lr=0.1))(module)))
    (module, optimizer), (other, turned) = made
    module(images(), AT).loss.backward()
    optimizer.step()
    state = Strategy(CPU).capture(module, optimizer)
    with pytest.raises(ValueError, match=r"groups are not those of AdamW: .*trunk.conv1.* there, .*trunk.bn1.* here"):
        Strategy(CPU).restore(other, turned, state)


@pytest.mark.parametrize("name", METHODS)
def test_what_is_said_to_be_equal_on_all_ranks_is_there(name: str) -> None:
    """By its whole name: a name that no buffer has would be a promise about nothing."""
    loss = build(resolve_experiment(METHODS[name]).config.loss)
    assert set(loss.same_on_all_ranks) <= {buffer for buffer, _ in loss.named_buffers()}
