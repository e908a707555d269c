"""iBOT beyond what `test_proofs.py` proves of every loss."""

from __future__ import annotations

import pytest
import torch
from losses.list import masked_crops
from losses.proofs import LinearModel, PatchModel
from losses.told import inferred, problems

from ssltyped.losses.ibot import IBOTLoss, IBOTLossConf


def test_without_masked_patches_the_patch_term_is_zero() -> None:
    loss, model = IBOTLoss(num_prototypes=6, num_patch_prototypes=4, masking_start_steps=1).double(), PatchModel()
    loss.setup(model)
    logs = loss.step(model, masked_crops(0)).logs
    assert logs["patch"] == 0, "masks are not used yet"
    assert logs["cls"] > 0
    loss.steps_done = 1
    assert loss.step(model, masked_crops(0)).logs["patch"] > 0


def test_the_temperature_of_the_patches_rises_from_the_first_mask_on() -> None:
    loss = IBOTLoss(num_prototypes=6, num_patch_prototypes=4, temperature_warmup_steps=4, masking_start_steps=2)
    found = []
    for step in range(7):
        loss.steps_done = step
        found.append((loss.temperature((0.04, 0.07)), loss.temperature((0.04, 0.07), 2)))
    assert [a for a, _ in found] == pytest.approx([0.04, 0.05, 0.06, 0.07, 0.07, 0.07, 0.07])
    assert [b for _, b in found] == pytest.approx([0.04, 0.04, 0.04, 0.05, 0.06, 0.07, 0.07])


def test_what_it_infers_and_refuses() -> None:
    asked = IBOTLossConf(temperature_warmup_epochs=2.0)
    known = {"feature_dims": {"lastCLS": 8, "lastBLK": 8}, "mask_grids": ((2, 2), (2, 2)), "output_dims": (6, 4)}
    assert inferred(asked, **known) == {
        "num_prototypes": 6,
        "num_patch_prototypes": 4,
        "temperature_warmup_steps": 16,
        "masking_start_steps": 0,
    }
    assert problems(asked, **known) == ""
    wrong = problems(asked, output_dims=(6,), mask_grids=((2, 2), None))
    assert "masks are needed for the first 2 crops; the data masks [0]" in wrong
    assert "the model has 1 outputs" in wrong
    assert "local_feature: the trunk has no feature 'lastCLS'" in wrong


def test_a_batch_without_masks_or_a_model_of_one_output() -> None:
    loss = IBOTLoss(num_prototypes=6, num_patch_prototypes=4)
    batch = masked_crops(0)
    with pytest.raises(ValueError, match="a mask for each of 2 global crops; it has 0"):
        loss.step(PatchModel(), type(batch)(views=batch.views, index=batch.index))
    pooled = type(batch)(views=tuple(v[:, :, :1, :1] for v in batch.views), index=batch.index, masks=batch.masks)
    with pytest.raises(ValueError, match="the model gives 1"):
        loss.step(LinearModel(), pooled)
    assert torch.equal(loss.center, torch.zeros(1, 6))
