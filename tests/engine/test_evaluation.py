"""What a model makes of all images of a subset."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import PatchesConf, tiny, tiny_trainer

from ssltyped import config
from ssltyped.config.overrides import override
from ssltyped.data.reading import DataError
from ssltyped.engine.evaluation import UNKNOWN, Evaluation
from ssltyped.types import Subset


def evaluation(folder: Path) -> Evaluation:
    trainer = tiny_trainer(tiny(evaluated=True), folder)
    trainer.student.trunk.eval()  # as a method may keep a part
    return Evaluation(trainer.student, trainer._data, trainer.device, lambda records: None)


def test_features_of_every_image_and_the_modes_afterwards(tmp_path: Path) -> None:
    found = evaluation(tmp_path)
    features, labels = found.features(Subset.TRAIN)
    assert tuple(features.shape) == (24, 64)
    assert labels.tolist() == [index % 4 for index in range(24)]
    assert not found._model.trunk.training
    assert found._model.heads.training
    assert UNKNOWN not in labels


def test_outputs_by_head_a_batch_at_a_time(tmp_path: Path) -> None:
    pairs = list(evaluation(tmp_path).outputs(Subset.VAL))
    assert sum(len(label) for _, label in pairs) == 10
    assert [tuple(found.of("projector").shape[1:]) for found, _ in pairs] == [(8,)] * len(pairs)
    assert not any(found.of("projector").requires_grad for found, _ in pairs)
    assert pairs[0][0].of("projector").dtype == torch.float32


def test_it_computes_in_the_precision_of_the_training(tmp_path: Path) -> None:
    """bf16 rounds to 8 bits; what comes out is float32 again."""
    features = {}
    for precision in ("fp32", "bf16"):
        asked = override(tiny(evaluated=True), [f"precision={precision}"])
        features[precision], _ = tiny_trainer(asked, tmp_path / precision).features(Subset.VAL)
    assert features["bf16"].dtype == torch.float32
    assert not torch.equal(features["bf16"], features["fp32"])
    torch.testing.assert_close(features["bf16"], features["fp32"], rtol=0.1, atol=0.05)


def test_images_that_cannot_be_read_at_all(tmp_path: Path) -> None:
    recipe = tiny(evaluated=True)
    broken = config.replaced(recipe, {"data.val.source": PatchesConf(count=10, broken=list(range(10)))})
    trainer = tiny_trainer(broken, tmp_path)
    found = Evaluation(trainer.student, trainer._data, trainer.device, lambda records: None)
    with pytest.raises(DataError, match=r"none of the images of data\.val can be read"):
        found.features(Subset.VAL)
    assert list(found.outputs(Subset.VAL)) == [], "of this rank: others may have some"
    assert found._model.heads.training, "the modes are as before"
