"""BatchNorm of one image at a time is told."""

from __future__ import annotations

from tiny import tiny

from ssltyped.config import override, replaced
from ssltyped.experiment import resolve_experiment
from ssltyped.trunks.vit import VisionTransformerConf


def warned(*overrides: str, vit: bool = False) -> list[str]:
    asked = override(tiny(), ["distributed.num_procs=2", "steps=2", "epochs=null", *overrides])
    if vit:
        small = VisionTransformerConf(image_size=16, patch_size=8, hidden_dim=8, num_heads=2, num_layers=1, mlp_dim=8)
        asked = replaced(asked, {"trunk": small})
    return [problem.message for problem in resolve_experiment(asked).warnings]


def test_one_image_a_rank() -> None:
    alone = ["data.train.batch_size=1", "distributed.sync_bn_group=1"]
    (text,) = warned(*alone)
    assert text.startswith("1 image a rank: BatchNorm normalizes by the statistics of a single image: use a larger")
    assert not warned("data.train.batch_size=1")
    assert not warned("data.train.batch_size=2", "distributed.sync_bn_group=1")
    assert not warned(*alone, vit=True)
