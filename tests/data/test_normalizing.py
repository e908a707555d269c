"""As torchvision normalizes (tests/data/test_pipeline.py has batches)."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2.functional import normalize

from ssltyped.data.normalizing import Normalizer


def test_it_is_that_of_torchvision_and_leaves_the_pixels() -> None:
    pixels = torch.randint(0, 256, (2, 3, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before = pixels.clone()
    ours = Normalizer((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    want = normalize(pixels.float() / 255, [0.5, 0.4, 0.3], [0.2, 0.25, 0.3])
    for _ in range(2):
        torch.testing.assert_close(ours(pixels), want)
    assert pixels.equal(before)
    with pytest.raises(ValueError, match=r"images have 1 channels, data\.mean has 3 values"):
        ours(pixels[:, :1])
