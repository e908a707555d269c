"""Multi-crop SimCLR beyond what `test_proofs.py` proves of every loss."""

from __future__ import annotations

import pytest
import torch
from losses.direct import MatrixModel, batch_of, outcome
from losses.proofs import HEAD, at, waves
from losses.told import problems

from ssltyped.losses.multicrop_simclr import MultiCropSimCLRLoss

VIEWS = [waves(6, 8) + 0.3 * v for v in range(4)]


@pytest.mark.parametrize("chunk_size", [1, 5, 24, 100])
def test_chunks_change_nothing(chunk_size: int) -> None:
    want = outcome(MultiCropSimCLRLoss(head=HEAD), VIEWS, torch.eye(8, dtype=torch.float64))
    got = outcome(MultiCropSimCLRLoss(head=HEAD, chunk_size=chunk_size), VIEWS, torch.eye(8, dtype=torch.float64))
    torch.testing.assert_close(got.loss, want.loss, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got.weight, want.weight, rtol=1e-12, atol=1e-12)


def test_other_crops_of_the_image_are_no_negatives() -> None:
    image = torch.eye(8, dtype=torch.float64)[:2]
    loss = outcome(MultiCropSimCLRLoss(head=HEAD, temperature=0.5), [image] * 3, torch.eye(8, dtype=torch.float64)).loss
    # positives have similarity 1; the 3 crops of the other image 0
    want = torch.log1p(3 * torch.exp(torch.tensor(-2.0, dtype=torch.float64)))
    torch.testing.assert_close(loss, want)


def test_mistakes_are_named() -> None:
    assert "at least 2 views of every image; the data makes 1" in problems(MultiCropSimCLRLoss(head=HEAD), num_views=1)
    assert "at least 2 images" in problems(MultiCropSimCLRLoss(head=HEAD), batch_size=1)
    with pytest.raises(ValueError, match="the batch has 1"):
        MultiCropSimCLRLoss(head=HEAD).step(MatrixModel(torch.eye(8)), batch_of(VIEWS[:1]), at(0))
