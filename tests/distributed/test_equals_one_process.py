"""W ranks x 16/W images give the loss and the gradients of one process x 16 images: the whole step, with the real
pipeline, SyncBatchNorm and DDP.

Exact in float64. In float32 a network of 18 layers with BatchNorm over 16 images amplifies rounding until a ReLU
flips: the gradient of one process is itself 1e-3 off the exact one. On a trunk of one layer it is 2e-6 off at
temperature 0.2. So in float32 the loss is held to 1e-6 on both, the gradient on one layer at temperature 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
from ranks import run_on_ranks
from torch import Tensor, nn

from recipes.quickstart import recipe
from ssltyped import config, distributed
from ssltyped.config import config_for
from ssltyped.config.overrides import override
from ssltyped.data.pipeline import TrainPipeline
from ssltyped.engine.strategy import strategy_for
from ssltyped.experiment import Experiment
from ssltyped.losses.simclr import SimCLRLossConf
from ssltyped.model.model import SSLModel
from ssltyped.resolution import resolve_experiment
from ssltyped.types import Batch, Features, Moment, Trunk

IMAGES = 16


class OneLayer(Trunk):
    """A convolution with BatchNorm, pooled.

    Args:
        width: channels.
    """

    def __init__(self, *, width: int = 32) -> None:
        super().__init__()
        self.width = width
        self.layer = nn.Sequential(nn.Conv2d(3, width, 5, stride=4), nn.BatchNorm2d(width), nn.ReLU())

    @property
    def feature_dims(self) -> Mapping[str, int]:
        return {"pooled": self.width}

    def forward(self, images: Tensor, features: Sequence[str]) -> Features:
        rows: Tensor = self.layer(images)
        return [rows.mean(dim=(2, 3)) for _ in features]


OneLayerConf = config_for(OneLayer)


def first_step(dtype: torch.dtype, shallow: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean loss over the ranks, and the gradients that the optimizer would see, of the first step."""
    ranks = distributed.world_size()
    changes = [f"distributed.num_procs={ranks}", f"data.train.batch_size={IMAGES // ranks}", "data.train.num_workers=0"]
    asked: Experiment = recipe
    if shallow:
        asked = config.replaced(recipe, {"trunk": OneLayerConf(), "loss": SimCLRLossConf(temperature=1.0)})
    resolved = resolve_experiment(override(asked, changes)).config
    torch.manual_seed(resolved.seed)
    built = config.build(resolved)
    model = SSLModel(trunk=built.trunk, heads=built.heads)
    strategy = strategy_for(torch.device("cpu"), sync_bn_group=built.distributed.sync_bn_group)
    module = strategy.prepare(model, built.loss).to(dtype)
    wrapped = strategy.wrap(module)
    with TrainPipeline(
        split=built.data.train, seed=resolved.seed, rank=distributed.rank(), world_size=ranks
    ) as pipeline:
        batch = built.data.normalize(next(pipeline))
    output = wrapped(Batch(views=tuple(view.to(dtype) for view in batch.views), index=batch.index), Moment(0, 1, 1))
    torch.autograd.backward(output.loss)
    gradients = {name: p.grad.double() for name, p in module.named_parameters() if p.grad is not None}
    return distributed.all_reduce_mean(output.loss.detach()).double(), gradients


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    assert max(float(gradient.abs().max()) for gradient in one.values()) > 1e-3, "there is something to compare"
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("shallow", [True, False])
def test_exact_in_float64(ranks: int, shallow: bool) -> None:
    loss, gradients = first_step(torch.float64, shallow)
    for loss_of_ranks, gradients_of_ranks in run_on_ranks(first_step, ranks, torch.float64, shallow):
        assert abs(float(loss - loss_of_ranks)) <= 1e-10
        assert largest_difference(gradients, gradients_of_ranks) <= 1e-10


@pytest.mark.parametrize("ranks", [2, 4])
def test_float32(ranks: int) -> None:
    loss, gradients = first_step(torch.float32, shallow=True)
    for loss_of_ranks, gradients_of_ranks in run_on_ranks(first_step, ranks, torch.float32, True):
        assert abs(float(loss - loss_of_ranks)) <= 1e-6
        assert largest_difference(gradients, gradients_of_ranks) <= 1e-6


@pytest.mark.parametrize("ranks", [2, 4])
def test_float32_loss_through_many_layers(ranks: int) -> None:
    loss, _ = first_step(torch.float32, shallow=False)
    for loss_of_ranks, _ in run_on_ranks(first_step, ranks, torch.float32, False):
        assert abs(float(loss - loss_of_ranks)) <= 1e-6
