"""Twelve mistakes, each as a user would make it: a subclass with the bug, a part of one's own, or a value."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from sabotage.digits import BARE, BATCH, digits, healthy
from torch import Tensor, nn

from recipes.quickstart import digit_views
from ssltyped import config
from ssltyped.config import INFERRED, config_for
from ssltyped.data.digits import Digits
from ssltyped.experiment import Experiment
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.losses.dino import DINOLoss
from ssltyped.losses.moco import MoCoLoss
from ssltyped.losses.shared_pass import module_of
from ssltyped.model.freeze import FreezeConf
from ssltyped.transforms.geometry import CenterCropConf
from ssltyped.transforms.views import RepeatViewsConf
from ssltyped.types import Batch, Carry, Head, Image, Loss, Model, Moment, StepOutput


class SimSiam(Loss):
    """Chen and He 2021 (arXiv 2011.10566), algorithm 1, as a user would write it: it hands no signals.

    Args:
        predictor: of one view's projection from that of the other.
    """

    def __init__(self, *, head: str = INFERRED, predictor: Head) -> None:
        super().__init__()
        self.head, self.predictor = head, predictor

    def stopped(self, z: Tensor) -> Tensor:
        """The target, without gradient."""
        return z.detach()

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        z = model(batch.views, heads=[self.head]).of(self.head)
        predicted = self.predictor(z)
        assert isinstance(predicted, Tensor)
        target = self.stopped(torch.cat(z.chunk(2)[::-1]))
        return StepOutput(loss=-F.cosine_similarity(predicted, target).mean())


class NoStopGradient(SimSiam):
    """Its target takes gradient."""

    def stopped(self, z: Tensor) -> Tensor:
        return z


class AliasedDINO(DINOLoss):
    """Its teacher is the student, not a copy of it."""

    def setup(self, model: Model) -> None:
        super().setup(model)
        self.teacher.model = module_of(model)


class AliasedMoCo(MoCoLoss):
    """Its key encoder is the query encoder."""

    def setup(self, model: Model) -> None:
        super().setup(model)
        self.encoder.model = module_of(model)


class ShallowMoCo(MoCoLoss):
    """Its key encoder is a shallow copy, with the same weights."""

    def setup(self, model: Model) -> None:
        super().setup(model)
        self.encoder.model = copy.copy(module_of(model))


class UncentredDINO(DINOLoss):
    """Its centre is never moved."""

    def update(self, model: Model, carries: Sequence[Carry], moment: Moment) -> None:
        still = [{"mean": torch.zeros_like(carry["mean"])} for carry in carries]
        super().update(model, still, moment)


class DeadQueueMoCo(MoCoLoss):
    """Its keys are thrown away."""

    def enqueue(self, keys: Float[Tensor, "N D"]) -> None:
        return None


class StuckQueueMoCo(MoCoLoss):
    """Its pointer stands: the same places are written in every step."""

    def enqueue(self, keys: Float[Tensor, "N D"]) -> None:
        super().enqueue(keys)
        self.pointer = 0


class AllEqual(Digits):
    """A file name that is wrong: each image is the first one."""

    def read(self, index: int) -> Image:
        return super().read(0)


class ZeroHead(Head):
    """A projector whose last layer starts from 0, as that of a residual branch may.

    Args:
        in_dim: width of the feature.
    """

    def __init__(self, *, in_dim: int = INFERRED) -> None:
        super().__init__()
        self.in_dim = in_dim
        self.layers = nn.Sequential(nn.Linear(in_dim, 128), nn.ReLU(), nn.Linear(128, 64))
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)

    @property
    def out_dim(self) -> int:
        return 64

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.layers(features)
        return found


SimSiamConf, NoStopGradientConf = config_for(SimSiam), config_for(NoStopGradient)
AliasedDINOConf, AliasedMoCoConf, ShallowMoCoConf = (
    config_for(AliasedDINO),
    config_for(AliasedMoCo),
    config_for(ShallowMoCo),
)
UncentredDINOConf, DeadQueueMoCoConf = config_for(UncentredDINO), config_for(DeadQueueMoCo)
StuckQueueMoCoConf, AllEqualConf, ZeroHeadConf = config_for(StuckQueueMoCo), config_for(AllEqual), config_for(ZeroHead)

SIMSIAM_HEAD = MLPHeadConf(dims=[128, 128], use_relu=True, use_bn=True)
PREDICTOR = MLPHeadConf(dims=[32, 128], use_relu=True, use_bn=True)


def broken(**fields: object) -> Mapping[str, Experiment]:
    """By the mistake; `fields` are those of the experiment."""
    well = healthy()
    simclr, swav, msn = well["simclr"], well["swav"], well["msn"]
    dino = config.replaced(well["dino"], {"data.train.views": digit_views()})

    def queued(loss: Callable[..., Loss]) -> Experiment:
        made = loss(queue_size=5 * BATCH, momentum=0.99, temperature=0.1, shuffle=False)
        return digits(loss=made, heads={"head": BARE})

    def of(loss: Loss, heads: Mapping[str, Head]) -> Experiment:
        return digits(loss=loss, heads=heads)

    made = {
        "no_stop_gradient": of(NoStopGradientConf(predictor=PREDICTOR), {"head": SIMSIAM_HEAD}),
        "aliased_teacher": config.replaced(dino, {"loss": AliasedDINOConf(momentum=0.99)}),
        "aliased_encoder": queued(AliasedMoCoConf),
        "shallow_encoder": queued(ShallowMoCoConf),
        "no_centring": config.replaced(dino, {"loss": UncentredDINOConf(momentum=0.99)}),
        "centre_held": config.replaced(dino, {"loss.center_momentum": 1.0}),
        "temperature": config.replaced(simclr, {"loss.temperature": 0.001}),
        "learning_rate": config.replaced(simclr, {"optimizer.rate.lr": 0.3}),
        "learning_rate_moco": config.replaced(well["moco"], {"optimizer.rate.lr": 0.3}),
        "equal_images": config.replaced(simclr, {"data.train.source": AllEqualConf()}),
        "equal_images_swav": config.replaced(swav, {"data.train.source": AllEqualConf()}),
        "lambda": config.replaced(well["barlow_twins"], {"loss.lambda_off": 1e-12}),
        "lambda_msn": config.replaced(msn, {"loss.lambda_entropy": 0.0}),
        "frozen_prototypes": config.replaced(swav, {"freeze": [FreezeConf(parts=["heads.head.prototypes"])]}),
        "normalisation": config.replaced(simclr, {"data.mean": (127.5, 127.5, 127.5), "data.std": (63.8, 63.8, 63.8)}),
        "normalisation_255": config.replaced(simclr, {"data.mean": (0.0, 0.0, 0.0), "data.std": (0.004, 0.004, 0.004)}),
        "same_views": config.replaced(
            simclr, {"data.train.views": RepeatViewsConf(num_views=2, transforms=[CenterCropConf(size=32)])}
        ),
        "dead_queue": queued(DeadQueueMoCoConf),
        "stuck_queue": queued(StuckQueueMoCoConf),
        "zero_head": of(copy.deepcopy(simclr.loss), {"head": ZeroHeadConf()}),
        "simsiam": of(SimSiamConf(predictor=PREDICTOR), {"head": SIMSIAM_HEAD}),
    }
    return {name: config.replaced(recipe, dict(fields)) for name, recipe in made.items()}
