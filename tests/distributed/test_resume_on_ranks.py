"""A run on several ranks that is resumed ends with bitwise the weights of one that was not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from ranks import run_on_ranks
from tiny import tiny
from torch import Tensor

from ssltyped import config, distributed
from ssltyped.config.overrides import override
from ssltyped.experiment import build_trainer
from ssltyped.heads.prototypes import DINOHeadConf, PrototypesHeadConf
from ssltyped.losses.deepcluster import DeepClusterV2LossConf
from ssltyped.losses.dino import DINOLossConf
from ssltyped.losses.moco import MoCoLossConf
from ssltyped.losses.npid import MemoryBankLossConf
from ssltyped.losses.swav import SwAVLossConf
from ssltyped.resolution import resolve_experiment

STEPS, HALF = 5, 2
"""Of 3 an epoch."""
GLOBAL_BATCH = 8

METHODS: Mapping[str, Mapping[str, object]] = {
    "moco": {"loss": MoCoLossConf(queue_size=16)},
    "swav": {
        "loss": SwAVLossConf(queue_size=16, momentum=0.9),
        "heads": {"head": PrototypesHeadConf(dims=[16, 8], num_prototypes=[6, 4])},
    },
    "deepcluster": {"loss": DeepClusterV2LossConf(num_clusters=[4, 3])},
    "npid": {"loss": MemoryBankLossConf(num_negatives=16)},
    "dino": {
        "loss": DINOLossConf(),
        "heads": {"head": DINOHeadConf(num_prototypes=8, hidden_dim=8, bottleneck_dim=4)},
    },
}
"""Methods with state that differs from rank to rank, or that must not."""


def train_all(folder: Path, resume: bool) -> dict[str, dict[str, Tensor]]:
    """The state after the last step of each method; resumed from the middle of the run in `whole`."""
    found = {}
    for name, parts in METHODS.items():
        checkpoint = folder / f"whole_{name}" / "checkpoints" / f"step_{HALF:08d}"
        at = folder / f"{'resumed' if resume else 'whole'}_{name}"
        found[name] = train(at, checkpoint if resume else None, parts)
    return found


def train(folder: Path, resume: Path | None, parts: Mapping[str, object] = {}) -> dict[str, Tensor]:
    """The state after the last step."""
    changes = [
        f"distributed.num_procs={distributed.world_size()}",
        f"data.train.batch_size={GLOBAL_BATCH // distributed.world_size()}",
        f"checkpoints.every_steps={HALF}",
        "checkpoints.keep=9",
    ]
    asked = config.replaced(override(tiny(steps=STEPS), changes), dict(parts))
    resolution = resolve_experiment(asked)
    folder.mkdir(exist_ok=True)
    trainer = build_trainer(resolution.config, device=torch.device("cpu"), folder=folder, facts=resolution.facts)
    trainer.fit(resume)
    module = trainer.snapshot()["module"]
    assert isinstance(module, dict)
    return {name: value for name, value in module.items() if isinstance(value, Tensor)}


@pytest.mark.parametrize("ranks", [2, 4])
def test_bitwise(tmp_path: Path, ranks: int) -> None:
    whole = run_on_ranks(train, ranks, tmp_path / "whole", None)
    checkpoint = tmp_path / "whole" / "checkpoints" / f"step_{HALF:08d}"
    resumed = run_on_ranks(train, ranks, tmp_path / "resumed", checkpoint)
    for one, other in zip(whole, resumed, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_methods_with_state_of_their_own(tmp_path: Path) -> None:
    whole = run_on_ranks(train_all, 2, tmp_path, False)
    resumed = run_on_ranks(train_all, 2, tmp_path, True)
    for one, other in zip(whole, resumed, strict=True):
        for method in METHODS:
            for name, value in one[method].items():
                assert torch.equal(value, other[method][name]), f"{method}: {name}"
    for method in METHODS:
        first, second = (run[method]["model.trunk.conv1.weight"] for run in whole)
        assert torch.equal(first, second), "all ranks have the same weights"
    assert not torch.equal(whole[0]["deepcluster"]["loss.memory"], whole[1]["deepcluster"]["loss.memory"])


def test_what_is_equal_on_all_ranks_is_saved_once(tmp_path: Path) -> None:
    run_on_ranks(train, 2, tmp_path / "npid", None, METHODS["npid"])
    folder = tmp_path / "npid" / "checkpoints" / f"step_{HALF:08d}"
    ranks = [torch.load(file, weights_only=True) for file in sorted(folder.glob("*rank*.pt"))]
    assert ranks, [file.name for file in folder.iterdir()]
    assert all("loss.memory" not in state["buffers"] for state in ranks)
    assert any("model.trunk.bn1.running_mean" in state["buffers"] for state in ranks)
