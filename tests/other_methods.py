"""What `METHODS` lacks: supervised losses of other kinds, distillations, several methods at once, one of ones own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from methods import METHODS, MLP, RESNET, crops, method, multicrop, vit
from test_byol import BYOLLossConf
from tiny import tiny

from ssltyped import config
from ssltyped.data.targets import OneHotConf
from ssltyped.experiment import Experiment
from ssltyped.heads.ibot import IBOTDistillationHeadConf
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.heads.prototypes import DINOHeadConf, MSNHeadConf, PrototypesHeadConf
from ssltyped.losses.distillation import (
    DINODistillationLossConf,
    DistillationLossConf,
    IBOTDistillationLossConf,
    MSNDistillationLossConf,
    SwAVDistillationLossConf,
)
from ssltyped.losses.frozen_teacher import FrozenTeacher, FrozenTeacherConf
from ssltyped.losses.moco import MoCoLossConf
from ssltyped.losses.npid import MemoryBankLossConf
from ssltyped.losses.sum_loss import SumLossConf
from ssltyped.losses.supervised import BCELossConf, CrossEntropyLossConf, TorchLossConf
from ssltyped.resolution import resolve_experiment
from ssltyped.transforms.masks import Shape
from ssltyped.trunks.vit import Masking
from ssltyped.types import Head, Loss, Trunk

CLASSES = MLPHeadConf(dims=[16, 4], use_bn=True)
ROWS = {"data.train.collators": [OneHotConf()]}
PROTOTYPES = PrototypesHeadConf(dims=[16, 8], num_prototypes=[6, 5])
DINO = DINOHeadConf(num_prototypes=12, hidden_dim=16, bottleneck_dim=8)
IBOT = IBOTDistillationHeadConf(num_prototypes=12, num_patch_prototypes=10, hidden_dim=16, feature="lastBLK")
MSN = MSNHeadConf(num_prototypes=8, hidden_dim=16, embedding_dim=8)


def supervised(loss: Loss, fields: Mapping[str, object]) -> Experiment:
    return method(views=crops(2), heads={"head": CLASSES}, loss=loss, fields=fields)


def teacher(head: Head, trunk: Trunk = RESNET) -> FrozenTeacher:
    """Its weights are made by `with_weights`."""
    return FrozenTeacherConf(trunk=trunk, heads={"head": head}, weights=Path("teacher.pt"))


def with_weights(asked: Experiment, file: Path) -> Experiment:
    """The method, whose teacher (if it has one) has weights in this file, the same ones whenever it is asked for."""
    if not hasattr(asked.loss, "teacher") or not config.is_config(asked.loss.teacher):
        return asked
    asked = config.replaced(asked, {"loss.teacher.weights": file})
    if not file.exists():
        file.touch()  # it is looked for
        torch.manual_seed(3)
        made = config.build(resolve_experiment(asked).config.loss)
        assert isinstance(made.teacher, FrozenTeacher)
        torch.save(made.teacher.model.state_dict(), file)
    return asked


ALL: Mapping[str, Loss] = {
    "moco": MoCoLossConf(head="projector", queue_size=24, momentum=0.9),
    "byol": BYOLLossConf(head="projector", predictor=MLPHeadConf(dims=[16, 8], use_bn=True), momentum=0.9),
    "classes": CrossEntropyLossConf(heads=["classes"], label_smoothing=0.1),
}

OTHERS: Mapping[str, Experiment] = {
    "weighted_classes": supervised(CrossEntropyLossConf(class_weights=[1.0, 2.0, 0.5, 1.0]), {}),
    "bce": supervised(BCELossConf(), ROWS),
    "torch_loss": supervised(TorchLossConf(name="SmoothL1Loss"), ROWS),
    "npid_given_constant": method(
        views=crops(1),
        heads={"head": MLPHeadConf(dims=[8])},
        loss=MemoryBankLossConf(num_negatives=6, norm_constant=30.0),
    ),
    "byol": method(views=crops(2), heads={"projector": MLP}, loss=ALL["byol"]),
    "sum": method(
        views=crops(2),
        heads={"projector": MLP, "classes": CLASSES},
        loss=SumLossConf(losses={**ALL}, weights={"moco": 0.5}),
    ),
    "distillation": method(
        views=crops(2), heads={"head": CLASSES}, loss=DistillationLossConf(teacher=teacher(CLASSES), alpha=0.7)
    ),
    "swav_distillation": method(
        views=multicrop(), heads={"head": PROTOTYPES}, loss=SwAVDistillationLossConf(teacher=teacher(PROTOTYPES))
    ),
    "dino_distillation": method(
        views=multicrop(), heads={"head": DINO}, loss=DINODistillationLossConf(teacher=teacher(DINO), swapped=True)
    ),
    "msn_distillation": method(
        views=multicrop(), heads={"head": MLP}, loss=MSNDistillationLossConf(teacher=teacher(MSN))
    ),
    "ibot_distillation": method(
        views=multicrop(masked=Shape.BLOCKS),
        trunk=vit(Masking.REPLACE),
        heads={"head": IBOT},
        loss=IBOTDistillationLossConf(teacher=teacher(IBOT, vit())),
    ),
}

EVERY: Mapping[str, Experiment] = {"simclr": tiny(), **METHODS, **OTHERS}
"""All of the package: `distributed/test_every_method.py` sees to that."""
