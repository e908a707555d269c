"""PrecisionAtK and RecallAtK: by hand, image by image, with one and with several classes an image."""

import pytest
import torch

from ssltyped.meters.precision_recall import PrecisionAtK, RecallAtK


@pytest.mark.parametrize("several", [False, True])
def test_by_hand(several: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(20, 6, generator=generator)
    many = (torch.rand(20, 6, generator=generator) < 0.4).long()
    target = many if several else torch.randint(6, (20,), generator=generator)
    classes = [set(row.nonzero()[:, 0].tolist()) for row in many] if several else [{int(t)} for t in target]
    precision, recall = PrecisionAtK(topk=[1, 2, 5]), RecallAtK(topk=[1, 2, 5])
    for meter in (precision, recall):
        for start in (0, 7, 14):
            meter.update(scores[start : start + 7], target[start : start + 7])
    for k in (1, 2, 5):
        found = sum(
            len(set(row.argsort(descending=True)[:k].tolist()) & c) for row, c in zip(scores, classes, strict=True)
        )
        assert precision.compute()[f"precision_at_{k}"] == pytest.approx(100 * found / (20 * k))
        assert recall.compute()[f"recall_at_{k}"] == pytest.approx(100 * found / sum(map(len, classes)))
