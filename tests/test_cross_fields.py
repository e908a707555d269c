"""Fields that contradict each other, or the data: what cannot work is an error, what may be unwise a warning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Self

import pytest
from methods import METHODS, PatchesConf
from tiny import tiny
from torch import Tensor

from ssltyped.config import INFERRED, ConfigError, config_for, part_of, replaced
from ssltyped.data.mixing import PairMixUpConf
from ssltyped.data.splits import EvalSplitConf
from ssltyped.evals.validation import ValidationConf
from ssltyped.experiment import Experiment
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.heads.plumbing import HeadSequenceConf, IdentityHeadConf
from ssltyped.heads.prototypes import DINOHead, DINOHeadConf, PrototypesHeadConf
from ssltyped.losses.dino import DINOLossConf
from ssltyped.losses.moco import MoCoLossConf
from ssltyped.losses.npid import MemoryBankLossConf
from ssltyped.losses.supervised import BCELossConf, CrossEntropyLossConf
from ssltyped.losses.swav import SwAVLossConf
from ssltyped.losses.teacher import cosine_momentum
from ssltyped.meters.topk import TopKAccuracyConf
from ssltyped.resolution import resolve_experiment
from ssltyped.transforms.geometry import CenterCropConf
from ssltyped.types import Batch, Collator, Facts, Head, Inference, Loss, Random


def warned(asked: Experiment) -> str:
    return "\n".join(map(str, resolve_experiment(asked).warnings))


def refused(asked: Experiment) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve_experiment(asked)
    return str(caught.value)


def with_loss(loss: Loss, head: Head | None = None, fields: Mapping[str, object] | None = None) -> Experiment:
    """On 24 images, in batches of 8."""
    heads = {"projector": head or MLPHeadConf(dims=[16, 8])}
    return replaced(tiny(loss=loss), {"heads": heads, **(fields or {})})


def test_a_queue_that_is_suggested_fits_the_images() -> None:
    assert "loss.queue_size: got 65530, which is no multiple of the 8 images of a step: 24 is" in refused(
        with_loss(MoCoLossConf(queue_size=65530))
    )


@pytest.mark.parametrize(
    ("loss", "head", "says"),
    [
        (MoCoLossConf(queue_size=32, momentum=0.5), None, "loss.queue_size: 32 keys in the queue for 24 images"),
        (
            SwAVLossConf(queue_size=32),
            PrototypesHeadConf(dims=[8], num_prototypes=[20]),
            "loss.queue_size: 32 images in the queue for 24 images",
        ),
        (
            SwAVLossConf(),
            PrototypesHeadConf(dims=[8], num_prototypes=[6, 30]),
            "loss.head: 30 prototypes of projector for 24 images",
        ),
        (
            DINOLossConf(momentum=0.5),
            DINOHeadConf(num_prototypes=65536, hidden_dim=8, bottleneck_dim=4),
            "loss.num_prototypes: 65,536 prototypes for 24 images",
        ),
        (MemoryBankLossConf(num_negatives=25), None, "loss.num_negatives: 25 negatives an image for 24 images"),
        (MoCoLossConf(queue_size=24, momentum=0.5), None, ""),
        (MemoryBankLossConf(num_negatives=24), None, ""),
    ],
)
def test_more_of_something_than_images(loss: Loss, head: Head | None, says: str) -> None:
    found = warned(with_loss(loss, head))
    assert found.startswith(says)
    assert found.count("\n") == 0
    assert bool(found) == bool(says)


@pytest.mark.parametrize(("momentum", "steps", "share"), [(0.999, 6, 0.999**6), (0.9, 6, 0.9**6), (0.89, 6, 0.4969)])
def test_a_teacher_that_hardly_moves(momentum: float, steps: int, share: float) -> None:
    found = warned(with_loss(MoCoLossConf(queue_size=24, momentum=momentum)))
    assert bool(found) == (share > 0.5)
    if found:
        said = f"loss.momentum: with {momentum:g}, {100 * share:.0f} % of the teacher is still its start after 6 steps"
        assert said in found
        assert f"about {0.01 ** (1 / steps):.3g} leaves 1 %" in found


@pytest.mark.parametrize("momentum", [0.9, 0.7])
def test_a_teacher_whose_momentum_rises(momentum: float) -> None:
    """The share of the first weights that is left is the product of the momenta of all steps."""
    head = DINOHeadConf(num_prototypes=6, hidden_dim=8, bottleneck_dim=4)
    left = 1.0
    for step in range(1, 7):
        left *= cosine_momentum(momentum, step / 6)
    found = warned(with_loss(DINOLossConf(momentum=momentum), head))
    assert bool(found) == (left > 0.5)
    if found:
        assert f"{100 * left:.0f} %"[0] == found.split(", ")[1][0], "to ten percent: it is an estimate"


@pytest.mark.parametrize(
    "head", [MLPHeadConf(dims=[16, 8]), HeadSequenceConf(heads=[MLPHeadConf(dims=[8]), IdentityHeadConf()])]
)
def test_a_method_that_compares_with_prototypes_refuses_a_head_without(head: Head) -> None:
    found = refused(with_loss(DINOLossConf(), head))
    kind = part_of(head).kind.__name__
    assert f"loss.head: needs a head with prototypes, such as DINOHead or PrototypesHead; projector is {kind}" in found


def test_a_head_may_be_a_part_of_another() -> None:
    rows: list[Head] = [IdentityHeadConf(), DINOHeadConf(num_prototypes=6, hidden_dim=8, bottleneck_dim=4)]
    resolve_experiment(with_loss(DINOLossConf(momentum=0.5), HeadSequenceConf(heads=rows)))


class Wrapped(Head):
    """A head of one's own around a head with prototypes, which is no field of it.

    Args:
        in_dim: width of the feature.
    """

    def __init__(self, *, in_dim: int = INFERRED) -> None:
        super().__init__()
        self.in_dim = in_dim
        self.inner = DINOHead(in_dim=in_dim, num_prototypes=6, hidden_dim=8, bottleneck_dim=4)

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        yield Inference("in_dim", facts.feature_dims["flatten"], "width of flatten")

    @property
    def out_dim(self) -> int:
        return self.inner.out_dim

    def forward(self, features: Tensor) -> Tensor | list[Tensor]:
        found: list[Tensor] | Tensor = self.inner(features)
        return found


WrappedConf = config_for(Wrapped)


def test_a_head_with_prototypes_within_is_one() -> None:
    resolve_experiment(with_loss(DINOLossConf(momentum=0.5), WrappedConf()))


class Coarse(Collator):
    """Two classes of four.

    Args:
        fine: classes that become one.
    """

    def __init__(self, *, fine: int = 2) -> None:
        self.fine = fine

    def __call__(self, batch: Batch, random: Random) -> Batch:
        return replace(batch, label=None if batch.label is None else batch.label // self.fine)


CoarseConf = config_for(Coarse)


@pytest.mark.parametrize("collator", [CoarseConf(), PairMixUpConf()])
def test_classes_of_a_collator_of_ones_own_are_not_known(collator: Collator) -> None:
    fields = {"data.train.collators": [collator]}
    asked = with_loss(CrossEntropyLossConf(), MLPHeadConf(dims=[2]), fields)
    if part_of(collator).kind is Coarse:
        resolve_experiment(asked)
    else:
        assert "the labels are of 4 classes" in refused(asked)


@pytest.mark.parametrize("loss", [CrossEntropyLossConf(), BCELossConf()])
def test_a_head_narrower_than_the_labels_is_refused(loss: Loss) -> None:
    """The patches have 4 classes."""
    narrow = refused(with_loss(loss, MLPHeadConf(dims=[3])))
    assert "loss.heads: the labels are of 4 classes; projector is 3 wide" in narrow
    assert warned(with_loss(loss, MLPHeadConf(dims=[4]))) == ""


def test_a_head_wider_than_the_labels_is_told() -> None:
    found = warned(with_loss(CrossEntropyLossConf(), MLPHeadConf(dims=[9])))
    assert found == "loss.heads: projector is 9 wide, and the labels are of 4 classes"


def test_more_places_than_classes_are_refused_before_the_run() -> None:
    val = EvalSplitConf(source=PatchesConf(count=8), transforms=[CenterCropConf(size=16)], num_workers=0)
    fields = {"data.val": val, "callbacks": [ValidationConf(meters=[TopKAccuracyConf(topk=[1, 5])])]}
    found = refused(with_loss(CrossEntropyLossConf(), MLPHeadConf(dims=[4]), fields))
    assert "callbacks.0.meters.0.topk: got 5, and there are only 4 classes in projector" in found


def test_the_methods_of_the_tests_are_told_of_their_teachers_only() -> None:
    for name, asked in METHODS.items():
        wrong = [line for line in warned(asked).splitlines() if not line.startswith("loss.momentum")]
        assert not wrong, (name, wrong)
