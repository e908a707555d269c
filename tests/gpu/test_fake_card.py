"""Every method, and what watches a run, on a card that is not there: no tensor is left on the host, none is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from gpu.fake import CARD, fake_card, fit_on_fake_card
from other_methods import EVERY, with_weights
from tiny import tiny

from ssltyped import config
from ssltyped.engine.callbacks.collapse_watch import CollapseWatchConf
from ssltyped.engine.callbacks.nan_guard import NaNGuardConf
from ssltyped.evals.linear_probe import LinearProbeConf, Probe
from ssltyped.evals.online_knn import KNNConf
from ssltyped.losses.simclr import SimCLRLoss
from ssltyped.types import Batch, Model, Moment, StepOutput

ONCE = {"strategy.prepare", "normalizing.<genexpr>"}
"""The model is copied there before the first step, and mean and deviation of the pixels with the first batch."""
LOGS = {"trainer._log_step"}
READ_IN_STEPS: Mapping[str, set[str]] = {
    # How many patches are left is a shape.
    "msn": {"vit._left"},
    # Once an epoch: which images are there.
    "deepcluster_v2": {"deepcluster.first_centroids", "deepcluster.cluster"},
}
pytestmark = [
    pytest.mark.filterwarnings("ignore:'pin_memory' argument", "ignore:Accessing the data pointer"),
    pytest.mark.skipif(tuple(map(int, torch.__version__.split(".")[:2])) < (2, 11), reason="torch asked for a driver"),
]


@pytest.mark.parametrize("name", EVERY)
def test_every_method(name: str, tmp_path: Path) -> None:
    """The last step, which starts an epoch: with a queue that is used, and clusters that are made."""
    asked = config.replaced(with_weights(EVERY[name], tmp_path / "teacher.pt"), {"steps": 4, "epochs": None})
    reads = fit_on_fake_card(asked, tmp_path, from_step=3)
    assert set(reads) == ONCE | LOGS | READ_IN_STEPS.get(name, set())
    assert reads["normalizing.<genexpr>"] == 2


def test_what_watches_a_run(tmp_path: Path) -> None:
    """They read, but in no step that they do not look at."""
    watchers = [NaNGuardConf(), CollapseWatchConf(every_steps=3), LinearProbeConf(), KNNConf(k=3, every_epochs=1)]
    asked = config.replaced(tiny(steps=6, evaluated=True), {"callbacks": watchers, "log_every": 100})
    reads = fit_on_fake_card(asked, tmp_path)
    assert reads["nan_guard.on_loss"] == 6
    assert reads["linear_probe.accuracy"] == reads["collapse_watch._of_this_rank"] == 2


def test_a_probe_goes_on_from_a_checkpoint() -> None:
    """Which is on the host: torchmetrics takes the counts as they are."""
    with fake_card():
        x, label = torch.zeros(8, 4, device=CARD), torch.zeros(8, dtype=torch.int64, device=CARD)
        probe = Probe(4, 3, 0.1, CARD)
        probe.learn(x, label)
        kept = torch.utils._pytree.tree_map_only(torch.Tensor, torch.Tensor.cpu, probe.state_dict())
        again = Probe(4, 3, 0.1, CARD)
        again.load_state_dict(kept)
        again.learn(x, label)


def test_a_tensor_that_is_left_on_the_host_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = SimCLRLoss.step

    def with_weights_of_views(self: SimCLRLoss, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        weighted = tuple(view * torch.ones(len(view), 1, 1, 1) for view in batch.views)
        return step(self, model, Batch(weighted, batch.index), moment)

    monkeypatch.setattr(SimCLRLoss, "step", with_weights_of_views)
    with pytest.raises(RuntimeError, match=r"two (different )?devices,? cuda:0"):
        fit_on_fake_card(tiny(steps=1), tmp_path)


def test_a_number_that_is_read_in_every_step_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spread = "ssltyped.losses.simclr.spread"
    monkeypatch.setattr(spread, lambda z: torch.tensor(z.std().item(), device=z.device))
    assert set(fit_on_fake_card(tiny(steps=1), tmp_path)) - ONCE == LOGS | {"simclr.step"}
