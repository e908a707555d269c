"""A run on several ranks that is resumed ends with bitwise the weights of one that was not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ranks import run_on_ranks
from torch import Tensor

from recipes.quickstart import recipe
from ssltyped import distributed
from ssltyped.experiment import build_trainer, resolve_experiment
from ssltyped.overrides import override

STEPS, HALF = 6, 3


def train(folder: Path, resume: Path | None) -> dict[str, Tensor]:
    """The state after the last step."""
    changes = [
        f"distributed.num_procs={distributed.world_size()}",
        "data.train.batch_size=8",
        "data.train.num_workers=0",
        f"steps={STEPS}",
        "epochs=null",
        f"checkpoints.every_steps={HALF}",
        "checkpoints.keep=9",
        "callbacks=[]",
    ]
    resolution = resolve_experiment(override(recipe, changes))
    folder.mkdir(exist_ok=True)
    trainer = build_trainer(resolution.config, device=torch.device("cpu"), folder=folder, facts=resolution.facts)
    trainer.fit(resume)
    module = trainer.capture()["module"]
    assert isinstance(module, dict)
    return module


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_bitwise(tmp_path: Path, ranks: int) -> None:
    whole = run_on_ranks(train, ranks, tmp_path / "whole", None)
    checkpoint = tmp_path / "whole" / "checkpoints" / f"step_{HALF:08d}"
    resumed = run_on_ranks(train, ranks, tmp_path / "resumed", checkpoint)
    for one, other in zip(whole, resumed, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
