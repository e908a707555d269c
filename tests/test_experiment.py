"""The root of a recipe: what follows from what, what contradicts, and how the parts are joined."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Optional

import pytest
import torch
from images import encoded, pixels
from tiny import PatchesConf, tiny, tiny_trainer

from ssltyped import config
from ssltyped.config import ConfigError
from ssltyped.config.overrides import override
from ssltyped.config.resolve import Resolution
from ssltyped.engine.parallel import DistributedConf
from ssltyped.experiment import Experiment
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.heads.prototypes import PrototypesHeadConf
from ssltyped.losses.moco import MoCoLossConf
from ssltyped.losses.msn import MSNLossConf
from ssltyped.losses.supervised import CrossEntropyLossConf
from ssltyped.model.freeze import FreezeConf
from ssltyped.resolution import FactFinder, resolve_experiment
from ssltyped.transforms.geometry import CenterCropConf
from ssltyped.transforms.rotation import RotatedViewsConf
from ssltyped.types import Batch, Inference


def resolved(asked: Experiment, *overrides: str) -> Resolution[Experiment]:
    return resolve_experiment(override(asked, overrides), "tiny")


def problems(asked: Experiment, *overrides: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        resolved(asked, *overrides)
    return {problem.path: problem.message for problem in caught.value.problems}


# --- length -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epochs", "steps", "wanted"), [(2, None, (2, 6)), (None, 6, (2, 6)), (None, 7, (3, 7)), (None, 1, (1, 1))]
)
def test_length(epochs: Optional[int], steps: Optional[int], wanted: tuple[int, int]) -> None:
    """24 images in steps of 8; a begun epoch counts."""
    asked = config.replaced(tiny(epochs=1), {"epochs": epochs, "steps": steps})
    found = resolved(asked).config
    assert (found.epochs, found.steps) == wanted


def test_the_rest_of_an_epoch_is_left_out() -> None:
    assert resolved(tiny(epochs=2), "data.train.source.count=31").config.steps == 6
    assert resolved(tiny(epochs=2), "data.train.source.count=32").config.steps == 8


def test_more_ranks_make_fewer_steps() -> None:
    asked = tiny(epochs=4, loss=MoCoLossConf(queue_size=24))
    asked = override(asked, ["accumulation=2", "data.train.batch_size=2", "distributed.num_procs=3"])
    found = resolve_experiment(config.replaced(asked, {"data.train.source": PatchesConf(count=50)}))
    assert found.config.global_batch_size == 12
    assert found.config.steps == 16
    rules = {row.field: row.rule for row in found.rows}
    assert rules["global_batch_size"] == "2 images a rank x 3 ranks x 2 batches"
    assert rules["steps"] == "4 epochs x 4 (50 images / 12 a step = 4 steps an epoch)"


def test_a_wrong_path_is_said_alone(tmp_path: Path) -> None:
    found = problems(tiny(), "data.train.source=null", f"data.train.path={tmp_path}/nowhere", "+callbacks=KNN")
    assert set(found) == {"data.train.path", "callbacks.0"} - ({"callbacks.0"} if len(found) == 1 else set())
    assert "nowhere does not exist" in found["data.train.path"]


def test_a_contradiction_says_what_to_write() -> None:
    """Each of the two ways on, tried: one of the two fields is left out."""
    found = problems(tiny(epochs=2), "steps=9", "optimizer.rate.base_lr=1")
    assert found["epochs"].endswith("write epochs=null to go by steps, or steps=null to keep epochs=2")
    assert found["optimizer.rate.lr"].endswith(
        "write optimizer.rate.lr=null to go by base_lr, or optimizer.rate.base_lr=null to keep optimizer.rate.lr=0.05"
    )
    by_first = override(
        tiny(epochs=2), ["steps=9", "optimizer.rate.base_lr=1", "epochs=null", "optimizer.rate.lr=null"]
    )
    resolved = resolve_experiment(by_first).config
    assert (resolved.steps, resolved.epochs) == (9, 3)
    assert config.get(resolved, "optimizer.rate.lr") == pytest.approx(8 / 256)
    by_second = override(tiny(epochs=2), ["steps=9", "steps=null"])
    assert resolve_experiment(by_second).config.steps == 6


def test_a_resolved_recipe_with_a_changed_field_names_all_that_contradicts() -> None:
    """Also what comes to light only when the first contradiction is mended: all of them at once, each with its null."""
    asked = override(tiny(epochs=2), ["optimizer.rate.lr=null", "optimizer.rate.base_lr=1", "schedule.start=null"])
    resolved = resolve_experiment(asked).config
    found = problems(resolved, "data.train.batch_size=4")
    assert set(found) == {"global_batch_size", "optimizer.rate.lr", "epochs"}
    assert "write global_batch_size=null" in found["global_batch_size"]
    told = ["data.train.batch_size=4", "global_batch_size=null", "optimizer.rate.lr=null", "epochs=null"]
    last = problems(resolved, *told)
    assert last == {"optimizer.rate.lr": last["optimizer.rate.lr"]}
    assert "leave the schedule's values out (schedule.start=null)" in last["optimizer.rate.lr"]
    assert resolve_experiment(override(resolved, [*told, "schedule.start=null"])).config.epochs == 1


def test_contradictions_are_named() -> None:
    found = problems(tiny(epochs=2), "steps=9")
    assert set(found) == {"epochs"}
    assert found["epochs"].startswith("got 2, but 3 follows from the rest: 9 steps (24 images / 8 a step")
    found = problems(tiny(), "global_batch_size=16", "heads.projector.in_dim=65")
    assert found["global_batch_size"].startswith("got 16, but 8 follows from the rest: 8 images a rank x 1 rank;")
    assert found["heads.projector.in_dim"].startswith(
        "got 65, but 64 follows from the rest: width of the trunk's flatten;"
    )


def test_what_agrees_is_no_contradiction() -> None:
    found = resolved(tiny(epochs=2), "steps=6", "global_batch_size=8", "heads.projector.in_dim=64")
    assert {row.field for row in found.rows}.isdisjoint(
        {"steps", "epochs", "global_batch_size", "heads.projector.in_dim"}
    )


def test_no_length() -> None:
    asked = config.replaced(tiny(), {"epochs": None, "steps": None})
    assert problems(asked)["epochs"] == "give epochs or steps"


def test_resolving_again_changes_nothing() -> None:
    once = resolved(tiny(epochs=2))
    again = resolve_experiment(once.config, "another")
    assert again.rows == ()
    assert config.to_yaml(again.config) == config.to_yaml(once.config)
    assert once.config.name == "tiny"


# --- wiring -------------------------------------------------------------------------------------------------


def test_heads_read_the_last_feature() -> None:
    found = resolved(tiny()).config.heads["projector"]
    assert (found.feature, found.in_dim) == ("flatten", 64)


def test_a_feature_a_head() -> None:
    """Each head is as wide as the feature that it reads."""
    names = ("res4", "res5", "flatten")
    heads = {f"on_{name}": MLPHeadConf(dims=[4], feature=name) for name in names}
    found = resolved(config.replaced(tiny(), {"heads": heads}), "loss.head=on_res5")
    dims = found.facts.feature_dims
    assert [head.in_dim for head in found.config.heads.values()] == [dims[name] for name in names] == [32, 64, 64]


def test_unknown_features_name_the_nearest() -> None:
    found = problems(tiny(), "heads.projector.feature=flaten")
    assert found["heads.projector.feature"] == "the trunk has no feature 'flaten'; did you mean 'flatten'?"


def test_a_method_asks_which_head_it_reads_only_where_there_is_a_choice() -> None:
    two = config.replaced(tiny(), {"heads": {"a": MLPHeadConf(dims=[4]), "b": MLPHeadConf(dims=[4])}})
    assert problems(two) == {"loss.head": "the model has the heads a, b: say which one SimCLRLoss reads"}
    assert resolved(two, "loss.head=b").config.loss.head == "b"
    assert problems(two, "loss.head=c") == {"loss.head": "got 'c'; the model has a, b"}
    assert problems(tiny(), "heads={}")["heads"].startswith("at least one is needed")


def test_all_problems_at_once() -> None:
    found = problems(tiny(), "heads.projector.feature=nope", "data.train.batch_size=25", "distributed.sync_bn_group=3")
    assert {"heads.projector.feature", "data.train.batch_size", "distributed.sync_bn_group"} <= set(found)


# --- data ---------------------------------------------------------------------------------------------------


def test_a_batch_that_is_too_large() -> None:
    found = problems(tiny(epochs=2), "data.train.batch_size=25")
    assert found["data.train.batch_size"].startswith("25 images make one step, and data.train has 24")
    assert not {"steps", "epochs"} & set(found), "one mistake, one error"


def folder_of_images(path: Path, count: int) -> Path:
    for index in range(count):
        file = path / f"class_{index % 2}" / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(pixels(seed=index), "PNG"))
    return path


def from_path(path: Path, num_images: Optional[int] = None) -> Experiment:
    fields = {"source": None, "path": path, "num_images": num_images}
    return config.replaced(tiny(epochs=2), {f"data.train.{name}": value for name, value in fields.items()})


def test_declared_images_plan_a_run_whose_data_is_elsewhere(tmp_path: Path) -> None:
    find = FactFinder()
    found = resolve_experiment(from_path(tmp_path / "elsewhere", 100), "tiny", find)
    assert found.config.steps == 24
    (problem,) = find.sources.problems(found.config.data, to_run=True)
    assert problem.path == "data.train.path"
    assert "does not exist" in problem.message


def test_undeclared_images_must_be_here(tmp_path: Path) -> None:
    assert str(tmp_path / "elsewhere") in problems(from_path(tmp_path / "elsewhere"))["data.train.path"]


def test_images_that_are_here_are_counted(tmp_path: Path) -> None:
    folder = folder_of_images(tmp_path, 18)
    find = FactFinder()
    found = resolve_experiment(from_path(folder), "tiny", find)
    assert found.facts.num_images == 18
    assert found.config.steps == 4
    assert find.sources.problems(found.config.data, to_run=True) == []
    wrong = resolve_experiment(from_path(folder, 17), "tiny", find)
    (problem,) = find.sources.problems(wrong.config.data, to_run=False)
    assert str(problem) == "data.train.num_images: declared 17, but there are 18 images: leave it out (null)"


def test_a_folder_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though facts are asked for in every round."""
    folder, find = folder_of_images(tmp_path, 8), FactFinder()
    found = resolve_experiment(from_path(folder), "tiny", find)
    monkeypatch.setattr(config, "build", None)
    assert find.sources.of(found.config.data.train, "data.train")[:2] == (8, True)


def test_a_source_that_fails_is_named_by_its_field(tmp_path: Path) -> None:
    for split in ("train", "val"):
        found = problems(
            tiny(evaluated=True), f"data.{split}.source=ImageFolder", f"data.{split}.source.path={tmp_path}/no"
        )
        assert set(found) == {f"data.{split}.source"}, found


@pytest.mark.parametrize(
    ("train", "val", "labelled"), [(True, True, True), (False, True, False), (True, False, False), (True, None, False)]
)
def test_labelled(train: bool, val: Optional[bool], labelled: bool) -> None:
    """Evaluations compare images of both: both need labels."""
    asked = tiny(source=PatchesConf(has_labels=train), evaluated=val is not None)
    if val is False:
        asked = override(asked, ["data.val.source.has_labels=false"])
    assert resolve_experiment(asked).facts.labelled is labelled


# --- the objects --------------------------------------------------------------------------------------------


def test_one_node_tells_the_rate_of_one_node() -> None:
    """What a warmup starts from: the rate that the optimizer would infer on one node."""
    asked = override(tiny(), ["optimizer.rate.lr=null", "optimizer.rate.base_lr=0.3"])
    eight = config.replaced(
        asked, {"distributed": DistributedConf(nodes=2, num_procs=4), "data.train.source.count": 99}
    )
    facts = resolve_experiment(eight).facts
    assert facts.nodes == 2
    assert facts.lr == pytest.approx(0.3 * 64 / 256)
    assert facts.base_lr_of_one_node == pytest.approx(0.3 * 32 / 256)
    assert resolve_experiment(tiny()).facts.base_lr_of_one_node is None


def test_the_seed_makes_the_weights(tmp_path: Path) -> None:
    def weights(seed: int) -> torch.Tensor:
        trainer = tiny_trainer(override(tiny(), [f"seed={seed}"]), tmp_path)
        return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_the_parts_of_a_trainer(tmp_path: Path) -> None:
    """The optimizer moves what is trained, once; a batch goes through trunk, head and loss."""
    trainer = tiny_trainer(tiny(), tmp_path)
    moved = [p for group in trainer._step.optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in moved} == {id(p) for p in trainer._step.module.parameters()}
    assert len(moved) == len({id(p) for p in moved})
    view = torch.randn(4, 3, 16, 16)
    output = trainer.forward(Batch(views=(view, view + 0.1), index=torch.arange(4)))
    assert output.loss.requires_grad
    assert trainer.model.training


def test_rules_say_what_they_infer() -> None:
    """The rule functions themselves, without the loop around them."""
    asked, facts = tiny(epochs=2), resolve_experiment(tiny(epochs=2)).facts
    found = list(Experiment.infer(asked, facts))
    assert Inference("steps", 6, "2 epochs x 3 (24 images / 8 a step = 3 steps an epoch)") in found
    unknown = dataclasses.replace(facts, num_images=None)
    assert not [i for i in Experiment.infer(asked, unknown) if i.field in ("steps", "epochs")]
    assert not list(Experiment.problems(asked, unknown)), "data.train says that its images are not there"


# --- widths of outputs ----------------------------------------------------------------------------------------


def test_widths_are_known_of_each_head_that_has_them() -> None:
    find = FactFinder()
    heads = {"a": MLPHeadConf(dims=[8], in_dim=64), "b": MLPHeadConf(dims=[16])}
    asked = config.replaced(tiny(), {"heads": heads})
    assert find(asked).output_dims == {"a": (8,)}
    assert find(config.replaced(asked, {"heads.b.in_dim": 64})).output_dims == {"a": (8,), "b": (16,)}
    assert find(asked).heads == ("a", "b")


def test_a_method_of_one_output_says_so_of_two() -> None:
    head = PrototypesHeadConf(dims=[8], num_prototypes=[3])
    found = problems(config.replaced(tiny(), {"heads": {"projector": head}, "loss": MSNLossConf()}))
    assert found == {"loss.head": "needs a head with exactly one output; projector has 2"}


def test_every_unknown_part_is_named() -> None:
    """Before anything is written."""
    freezes = [FreezeConf(parts=["trunk", "trunk.layer7"]), FreezeConf(parts=["heads.projekt"], epochs=1)]
    found = problems(config.replaced(tiny(), {"freeze": freezes}))
    assert found.keys() == {"freeze.0.parts.1", "freeze.1.parts.0"}
    assert "no module and no parameter 'trunk.layer7'; did you mean 'trunk.layer" in found["freeze.0.parts.1"]
    assert "did you mean 'heads.projector'" in found["freeze.1.parts.0"]


def test_a_label_of_the_views_is_a_label() -> None:
    """RotNet and jigsaw need no labelled images."""
    views = RotatedViewsConf(transforms=[CenterCropConf(size=16)])
    asked = config.replaced(
        tiny(source=PatchesConf(has_labels=False), loss=CrossEntropyLossConf()), {"data.train.views": views}
    )
    facts = FactFinder()(asked)
    assert (facts.train_labelled, facts.num_classes, facts.num_views) == (True, 4, 1)
    assert resolved(asked, "heads.projector.dims=[4]").facts.output_dims == {"projector": (4,)}
    few = problems(asked, "heads.projector.dims=[3]")
    assert few == {"loss.heads": "the views make 4 classes; projector is 3 wide"}
    plain = config.replaced(asked, {"data.train.views": tiny().data.train.views})
    assert "needs labels" in problems(plain)["loss"]
