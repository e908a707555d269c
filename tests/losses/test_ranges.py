"""What each loss says that it can be: outputs that say nothing, and every method on tiny data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest
import torch
from losses.direct import MatrixModel, batch_of
from losses.proofs import HEAD, at, waves
from methods import METHODS
from tiny import tiny_trainer

from ssltyped.losses.barlow_twins import BarlowTwinsLoss
from ssltyped.losses.dino import DINOLoss
from ssltyped.losses.moco import MoCoLoss
from ssltyped.losses.msn import MSNLoss
from ssltyped.losses.npid import Contrast, MemoryBankLoss
from ssltyped.losses.simclr import MultiCropSimCLRLoss, SimCLRLoss
from ssltyped.losses.sum_loss import SumLoss
from ssltyped.losses.supervised import BCELoss, CrossEntropyLoss, TorchLoss
from ssltyped.types import Batch, Loss, LossRange

BANK = partial(MemoryBankLoss, heads=[HEAD], embedding_dim=6, num_images=9, num_negatives=8)
UNIFORM: Mapping[str, tuple[Callable[[], Loss], float]] = {
    "simclr": (partial(SimCLRLoss, head=HEAD, chunk_size=4), math.log(2 * 4 - 1)),
    "multicrop": (partial(MultiCropSimCLRLoss, head=HEAD), math.log(2 * 3 + 1)),
    "moco": (partial(MoCoLoss, head=HEAD, embedding_dim=6, queue_size=20), math.log(21)),
    "barlow": (partial(BarlowTwinsLoss, head=HEAD), 0.024 * 6),
    "dino": (partial(DINOLoss, head=HEAD, num_prototypes=6, temperature_warmup_steps=0), math.log(6)),
    "msn": (partial(MSNLoss, head=HEAD, embedding_dim=6, num_prototypes=10, lambda_entropy=0.5), 0.5 * math.log(10)),
    "nce": (BANK, math.log(9) + 8 * math.log(9 / 8)),
    "info_nce": (partial(BANK, contrast=Contrast.INFO_NCE), math.log(9)),
    "cross_entropy": (partial(CrossEntropyLoss, heads=[HEAD], label_smoothing=0.1), math.log(6)),
    "bce": (partial(BCELoss, heads=[HEAD]), 6 * math.log(2)),
    "sum": (
        lambda: SumLoss(
            losses={"a": SimCLRLoss(head=HEAD, chunk_size=4), "b": BarlowTwinsLoss(head=HEAD)}, weights={"a": 3.0}
        ),
        3 * math.log(7) + 0.024 * 6,
    ),
}


@pytest.mark.parametrize("name", UNIFORM)
def test_outputs_that_say_nothing_give_the_uniform_value(name: str) -> None:
    make, value = UNIFORM[name]
    loss, model = make(), MatrixModel(torch.zeros(6, 6))
    loss.setup(model)
    plain = batch_of([waves(4, 6).float(), waves(5, 6).float()[1:]])
    label = torch.eye(6, dtype=torch.int64)[:4] if name == "bce" else torch.arange(4)
    found = loss.step(model, Batch(plain.views, plain.index, label), at(0))
    assert found.expected is not None
    assert found.expected.uniform == pytest.approx(value)
    assert found.loss.item() == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_stays_within_its_range(name: str, tmp_path: Path) -> None:
    trainer = tiny_trainer(METHODS[name], tmp_path)
    found = trainer.forward(next(trainer._one_pass()))
    assert found.expected is not None
    assert found.expected.lowest <= found.loss.item() <= found.expected.highest
    assert found.expected.uniform is not None


@pytest.mark.parametrize("scale", [1.0, -1.0])
def test_the_worst_case_of_cosines_is_within_the_range(scale: float) -> None:
    """The two views of an image are opposite, and all other embeddings like one of them; or all is as it should be."""
    first = torch.eye(6)[[0, 0, 0, 0]]
    model = MatrixModel(torch.eye(6))
    for loss in (SimCLRLoss(head=HEAD, chunk_size=4), MultiCropSimCLRLoss(head=HEAD)):
        found = loss.step(model, batch_of([first, scale * first]), at(0))
        assert found.expected is not None
        assert found.expected.lowest <= found.loss.item() <= found.expected.highest + 1e-4


def test_a_loss_of_torch_can_be_anything() -> None:
    assert TorchLoss(heads=[HEAD], name="MSELoss").range_of(torch.zeros(2, 3), torch.zeros(2, 3)).lowest == -math.inf


def test_ranges_add_up_and_scale() -> None:
    one, other = LossRange(-1.0, 4.0, 2.0), LossRange(0.0, 1.0, remedy="less")
    assert one * 2 == LossRange(-2.0, 8.0, 4.0)
    assert one + other == LossRange(-1.0, 5.0, None, "less")
