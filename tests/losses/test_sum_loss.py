"""Several methods at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from losses.proofs import at
from methods import METHODS, crops, method
from tiny import TORCHRUN

from ssltyped.cli.plan import plan
from ssltyped.config import ConfigError, build, replaced
from ssltyped.experiment import Experiment
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.launch import launch
from ssltyped.losses.barlow_twins import BarlowTwinsLossConf
from ssltyped.losses.moco import MoCoLossConf
from ssltyped.losses.simclr import SimCLRLossConf
from ssltyped.losses.sum_loss import SumLoss, SumLossConf
from ssltyped.losses.supervised import CrossEntropyLossConf
from ssltyped.model.freeze import FreezeConf
from ssltyped.model.model import SSLModel
from ssltyped.resolution import resolve_experiment
from ssltyped.types import Batch, Loss


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)


def three() -> Experiment:
    """Two contrastive losses of one projector's embeddings, and a supervised one with a head of its own."""
    return method(
        views=crops(2),
        heads={"projector": MLPHeadConf(dims=[16, 8]), "classes": MLPHeadConf(dims=[4])},
        loss=SumLossConf(
            losses={
                "simclr": SimCLRLossConf(head="projector"),
                "barlow": BarlowTwinsLossConf(head="projector"),
                "classes": CrossEntropyLossConf(heads=["classes"]),
            },
            weights={"barlow": 0.5},
        ),
    )


def parts() -> tuple[SumLoss, SSLModel, Batch]:
    torch.manual_seed(0)
    resolved = resolve_experiment(three()).config
    built = build(resolved)
    assert isinstance(built.loss, SumLoss)
    views = tuple(torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(v)) for v in range(2))
    batch = Batch(views=views, index=torch.arange(8), label=torch.arange(8) % 4)
    return built.loss, SSLModel(trunk=built.trunk, heads=built.heads).eval(), batch


def test_it_is_the_weighted_sum_in_one_pass() -> None:
    loss, model, batch = parts()
    passes: list[object] = []
    hook = model.register_forward_hook(lambda module, views, found: passes.append(found))
    output = loss.step(model, batch, at(0))
    hook.remove()
    assert len(passes) == 1
    alone = {name: part.step(model, batch, at(0)) for name, part in loss.losses.items()}
    wanted = alone["simclr"].loss + 0.5 * alone["barlow"].loss + alone["classes"].loss
    torch.testing.assert_close(output.loss, wanted)
    assert set(output.logs) >= {"simclr", "barlow", "classes", "simclr.z_std", "barlow.diagonal", "classes.top1"}
    torch.testing.assert_close(output.logs["barlow"], alone["barlow"].loss.detach())


def test_each_part_moves_its_own_state(tmp_path: Path) -> None:
    parts: dict[str, Loss] = {"moco": MoCoLossConf(queue_size=16), "simclr": SimCLRLossConf()}
    asked = replaced(three(), {"heads": {"projector": MLPHeadConf(dims=[16, 8])}, "loss": SumLossConf(losses=parts)})
    run = launch(replaced(asked, {"output": tmp_path, "steps": 2}))
    state = torch.load(run.folder / "checkpoints" / "step_00000002" / "state.pt", weights_only=True)["module"]
    assert state["loss.losses.moco._extra_state"] == {"pointer": 0}, "16 keys have gone round a queue of 16"
    assert "loss.losses.moco.encoder.model.trunk.conv1.weight" in state
    assert {"moco", "simclr", "moco.accuracy"} <= run.metrics.keys()


def test_the_plan_and_its_mistakes() -> None:
    assert "SumLoss" in plan(three(), "three")
    wrong = replaced(three(), {"loss.weights": {"barlo": 1.0}, "loss.product_of": "x"})
    with pytest.raises(ConfigError) as error:
        resolve_experiment(wrong)
    told = str(error.value)
    assert "loss.weights.barlo: there is no part 'barlo'; did you mean 'barlow'?" in told
    assert "loss.product_of: there is no part 'x'; known: simclr, barlow, classes" in told
    unsaid = replaced(three(), {"loss.losses.simclr.head": None})
    with pytest.raises(ConfigError, match=r"loss.losses.simclr.head: the model has the heads projector, classes"):
        resolve_experiment(unsaid)


def test_names_that_would_hide_something() -> None:
    asked = replaced(three(), {"loss": SumLossConf(losses={"loss": SimCLRLossConf(head="projector")})})
    with pytest.raises(ConfigError, match=r"loss.losses.loss: 'loss' cannot be the name of a part"):
        resolve_experiment(asked)
    with pytest.raises(ValueError, match=r"losses.items: 'items' cannot be the name"):
        SumLoss(losses={"items": parts()[0].losses["simclr"]})


def test_a_part_does_not_run_the_head_of_another(tmp_path: Path) -> None:
    """MoCo reads one view by its head, SimCLR two by another; BatchNorm in them counts the passes."""
    head = MLPHeadConf(dims=[16, 8], use_bn=True)
    losses: dict[str, Loss] = {"simclr": SimCLRLossConf(head="a"), "moco": MoCoLossConf(head="b", queue_size=16)}
    changes = {"heads": {"a": head, "b": head}, "loss": SumLossConf(losses=losses), "steps": 2, "output": tmp_path}
    state = launch(replaced(three(), changes)).model.state_dict()
    counts = {name: int(value) for name, value in state.items() if "heads." in name and "num_batches" in name}
    assert counts == {f"heads.{name}.layers.1.num_batches_tracked": 2 for name in ("a", "b")}


def test_two_teachers_with_a_head_each(tmp_path: Path) -> None:
    """DINO on all crops and iBOT on the masked ones, whose features of patches the small crops do not share."""
    dino, ibot = METHODS["dino"], METHODS["ibot"]
    losses = {"dino": replaced(dino.loss, {"head": "dino"}), "ibot": replaced(ibot.loss, {"head": "ibot"})}
    heads = {"dino": dino.heads["head"], "ibot": ibot.heads["head"]}
    asked = replaced(ibot, {"heads": heads, "loss": SumLossConf(losses=losses), "steps": 2, "output": tmp_path})
    assert {"dino", "ibot", "ibot.patch"} <= launch(asked).metrics.keys()


def test_a_sum_of_a_sum_and_parts_by_their_path() -> None:
    inner = SumLossConf(losses={"simclr": SimCLRLossConf(head="projector")})
    losses: dict[str, Loss] = {"inner": inner, "moco": MoCoLossConf(head="projector", queue_size=16)}
    asked = replaced(three(), {"loss": SumLossConf(losses=losses)})
    frozen = [FreezeConf(parts=["loss.losses.moco.encoder"])]
    assert "SumLoss" in plan(replaced(asked, {"freeze": frozen}), "nested")
