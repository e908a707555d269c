"""iBOT beyond what `test_proofs.py` proves of every loss."""

from __future__ import annotations

import pytest
import torch
from losses.list import masked_crops
from losses.proofs import HEAD, IMAGES, LinearModel, PatchModel, at
from losses.told import inferred, problems

from ssltyped.losses.ibot import IBOTLoss, IBOTLossConf


def ibot(temperature_warmup_steps: int = 0, masking_start_steps: int = 0) -> IBOTLoss:
    return IBOTLoss(
        head=HEAD,
        num_prototypes=6,
        num_patch_prototypes=4,
        temperature_warmup_steps=temperature_warmup_steps,
        masking_start_steps=masking_start_steps,
    )


def test_without_masked_patches_the_patch_term_is_zero() -> None:
    loss, model = ibot(masking_start_steps=1).double(), PatchModel()
    loss.setup(model)
    logs = loss.step(model, masked_crops(0, IMAGES), at(0)).logs
    assert logs["patch"] == 0, "masks are not used yet"
    assert logs["cls"] > 0
    assert loss.step(model, masked_crops(0, IMAGES), at(1)).logs["patch"] > 0


def test_the_temperature_of_the_patches_rises_from_the_first_mask_on() -> None:
    loss = ibot(temperature_warmup_steps=4, masking_start_steps=2)
    found = [(loss.temperature((0.04, 0.07), step), loss.temperature((0.04, 0.07), step, 2)) for step in range(7)]
    assert [a for a, _ in found] == pytest.approx([0.04, 0.05, 0.06, 0.07, 0.07, 0.07, 0.07])
    assert [b for _, b in found] == pytest.approx([0.04, 0.04, 0.04, 0.05, 0.06, 0.07, 0.07])


def test_what_it_infers_and_refuses() -> None:
    asked = IBOTLossConf(temperature_warmup_epochs=2.0)
    known: dict[str, object] = {"feature_dims": {"lastCLS": 8, "lastBLK": 8}, "mask_grids": ((2, 2), (2, 2))}
    assert inferred(asked, (6, 4), **known) == {
        "num_prototypes": 6,
        "num_patch_prototypes": 4,
        "temperature_warmup_steps": 16,
        "masking_start_steps": 0,
    }
    assert problems(asked, (6, 4), **known) == ""
    wrong = problems(asked, outputs=(6,), mask_grids=((2, 2), None))
    assert "masks are needed for the first 2 crops; the data masks [0]" in wrong
    assert "head: needs a head with outputs of class token and patches, as IBOTHead has; head has 1" in wrong
    assert "local_feature: the trunk has no feature 'lastCLS'" in wrong


def test_a_batch_without_masks_or_a_model_of_one_output() -> None:
    loss = ibot()
    batch = masked_crops(0, IMAGES)
    with pytest.raises(ValueError, match="a mask for each of 2 global crops; it has 0"):
        loss.step(PatchModel(), type(batch)(views=batch.views, index=batch.index), at(0))
    pooled = type(batch)(views=tuple(v[:, :, :1, :1] for v in batch.views), index=batch.index, masks=batch.masks)
    with pytest.raises(ValueError, match="the head gives 1"):
        loss.step(LinearModel(), pooled, at(0))
    assert torch.equal(loss.center, torch.zeros(1, 6))
