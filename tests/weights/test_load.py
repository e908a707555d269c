"""Starting from weights: what fills what, and what is refused."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest
import torch
from methods import METHODS
from tiny import TORCHRUN, PatchesConf, tiny, tiny_trainer

from ssltyped.cli.plan import plan
from ssltyped.config import ConfigError, replaced
from ssltyped.data.splits import EvalSplitConf
from ssltyped.engine.checkpoint import CheckpointsConf
from ssltyped.engine.evaluation import Evaluation
from ssltyped.evals.knn import knn_accuracy
from ssltyped.evals.online_knn import KNNConf
from ssltyped.heads.mlp import MLPHead
from ssltyped.launch import Run, launch
from ssltyped.losses.dino import DINOLoss
from ssltyped.model.files import about, read_weights
from ssltyped.model.model import SSLModel
from ssltyped.transforms.geometry import CenterCropConf
from ssltyped.trunks.resnet import ResNet, ResNetConf, Stem
from ssltyped.types import Subset
from ssltyped.weights.load import Load, LoadConf
from ssltyped.weights.vissl import trunk_layout


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)


def small(width: float = 0.125) -> SSLModel:
    trunk = ResNet(depth=18, width_multiplier=width, stem=Stem.SMALL)
    return SSLModel(trunk=trunk, heads={"projector": MLPHead(dims=[16, 8], in_dim=int(512 * width))})


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        for name in TORCHRUN:
            patch.delenv(name, raising=False)
        return launch(tiny(output=tmp_path_factory.mktemp("first"), steps=2))


@pytest.mark.parametrize("of", ["weights.pt", "", "checkpoints/step_00000002", "checkpoints/step_00000002/state.pt"])
def test_a_trunk_of_a_run(first: Run, of: str) -> None:
    """From its weights, its folder, or a checkpoint."""
    model = small()
    report = Load(path=first.folder / of)(model)
    for name, value in first.model.trunk.state_dict().items():
        assert torch.equal(model.trunk.state_dict()[name], value), name
    assert report.share == 1
    assert str(report).startswith(f"trunk from {first.folder / of} (student): 120 of 120 tensors, 100.0% of the")


def test_two_of_many_tensors_are_refused(first: Run, tmp_path: Path) -> None:
    """What other frameworks load 'successfully'."""
    state = read_weights(first.folder / "weights.pt")
    few = {name: value for name, value in state.items() if name.startswith("trunk.bn1.") and "num" not in name}
    torch.save(dict(list(few.items())[:2]), tmp_path / "few.pt")
    with pytest.raises(ConfigError) as error:
        Load(path=tmp_path / "few.pt")(small())
    told = str(error.value)
    assert "2 of 120 tensors" in told
    assert "missing: conv1.weight" in told
    assert "and 113 more" in told
    assert "may_miss" in told
    untouched = small()
    before = {name: value.clone() for name, value in untouched.state_dict().items()}
    with pytest.raises(ConfigError):
        Load(path=tmp_path / "few.pt")(untouched)
    assert all(torch.equal(value, before[name]) for name, value in untouched.state_dict().items()), "nothing half-done"


def test_what_is_named_may_be_missing_or_left(first: Run, tmp_path: Path) -> None:
    state = {n: v for n, v in read_weights(first.folder / "weights.pt").items() if not n.startswith("trunk.layer4.")}
    torch.save({**state, "trunk.fc.weight": torch.zeros(3, 4)}, tmp_path / "other.pt")
    with pytest.raises(ConfigError, match=r"without a place: fc\.weight"):
        Load(path=tmp_path / "other.pt")(small())
    report = Load(path=tmp_path / "other.pt", may_miss=["layer4"], may_leave=["fc"])(small())
    assert 0 < report.share < 1
    assert report.unexpected == ("fc.weight",)
    assert all(name.startswith("layer4.") for name in report.missing)


def test_other_shapes_are_named(first: Run) -> None:
    with pytest.raises(ConfigError, match=r"shapes: conv1.weight \(8, 3, 3, 3\) for \(16, 3, 3, 3\)"):
        Load(path=first.folder)(small(width=0.25))


def test_a_part_by_name_and_a_prefix(first: Run) -> None:
    model = small()
    Load(path=first.folder, into="heads.projector")(model)
    wanted = read_weights(first.folder / "weights.pt")
    assert torch.equal(model.state_dict()["heads.projector.layers.0.weight"], wanted["heads.projector.layers.0.weight"])
    with pytest.raises(ConfigError, match=r"prefix: nothing in the file starts with 'trnk'; did you mean 'trunk'"):
        Load(path=first.folder, prefix="trnk")(model)
    with pytest.raises(ValueError, match="no module and no parameter 'trnk'"):
        Load(path=first.folder, into="trnk")(model)


def test_a_trunk_of_vissl(tmp_path: Path) -> None:
    """A file as VISSL writes it, by its names."""
    trunk = ResNet(depth=18, width_multiplier=0.125)
    theirs = trunk_layout(trunk).export(trunk)
    parts = {"trunk": theirs, "heads": {"0.clf.0.bias": torch.zeros(8)}}
    file = tmp_path / "model_final.torch"
    torch.save({"phase_idx": 1, "classy_state_dict": {"base_model": {"model": parts, "meta": {}}}}, file)
    other = ResNet(depth=18, width_multiplier=0.125)
    model = SSLModel(trunk=other, heads={"projector": MLPHead(dims=[8], in_dim=64)})
    assert Load(path=file)(model).share == 1
    assert "_feature_blocks.conv1.weight" in theirs
    for name, value in trunk.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
    with pytest.raises(
        ConfigError, match=r"heads\.projector from .* \(VISSL\): 1 of 2 tensors.*missing: layers\.0\.weight"
    ):
        Load(path=file, into="heads.projector")(model)
    del theirs["_feature_blocks.conv1.weight"]
    torch.save({"classy_state_dict": {"base_model": {"model": parts}}}, file)
    with pytest.raises(ConfigError, match=r"missing: conv1\.weight"):
        Load(path=file)(model)
    torch.save({"classy_state_dict": {"base_modul": {}}}, file)
    with pytest.raises(
        ConfigError, match=r"path: .*model_final.torch is no checkpoint of VISSL: it has no 'base_model'"
    ):
        Load(path=file)(model)


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04junk"])
def test_a_file_of_something_else(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(content)
    with pytest.raises(ConfigError, match=r"path: .*weights.pt cannot be read as weights"):
        Load(path=tmp_path / "weights.pt")(small())
    torch.save({"a": 1}, tmp_path / "weights.pt")
    with pytest.raises(ConfigError, match="holds no tensors by name"):
        Load(path=tmp_path / "weights.pt")(small())


def test_a_run_starts_from_them_and_a_resumed_one_does_not_need_them(first: Run, tmp_path: Path) -> None:
    """The trunk is that of the first run before the first step; the file may be gone when the run goes on."""
    file = tmp_path / "weights.pt"
    file.write_bytes((first.folder / "weights.pt").read_bytes())
    asked = replaced(
        tiny(output=tmp_path, steps=2, checkpoints=CheckpointsConf(every_steps=1)),
        {"init": [LoadConf(path=file)], "seed": 3, "name": "second"},
    )
    text = plan(asked, "second")
    assert "trunk from" in text
    assert "120 of 120 tensors" in text
    fresh = launch(replaced(asked, {"init": [], "name": "fresh"}))
    begun = launch(asked)
    assert begun.metrics["loss"] != fresh.metrics["loss"]
    file.unlink()
    with pytest.raises(ConfigError, match=r"init.0.path: .*weights.pt does not exist"):
        launch(replaced(asked, {"name": "third"}))
    assert not (tmp_path / "third").exists(), "nothing is written before that is known"
    shutil.rmtree(begun.folder / "checkpoints" / "step_00000002")
    again = launch(asked)
    assert again.metrics["loss"] == begun.metrics["loss"], "it went on from step 1, and asked for no file"


def test_a_teacher_is_made_from_the_loaded_student(first: Run, tmp_path: Path) -> None:
    """And the trunk of a teacher can be taken out of a checkpoint, by its prefix."""
    trunk = ResNetConf(depth=18, width_multiplier=0.125, stem=Stem.SMALL)
    asked = replaced(METHODS["moco"], {"trunk": trunk, "output": tmp_path, "steps": 1, "optimizer.rate.lr": 1e-30})
    run = launch(replaced(asked, {"init": [LoadConf(path=first.folder)]}), name="moco")
    state = torch.load(run.folder / "checkpoints" / "step_00000001" / "state.pt", weights_only=True)["module"]
    wanted = first.model.trunk.state_dict()["conv1.weight"]
    torch.testing.assert_close(state["loss.encoder.model.trunk.conv1.weight"], wanted)
    model = small()
    Load(path=run.folder / "checkpoints" / "step_00000001", prefix="loss.encoder.model.trunk")(model)
    torch.testing.assert_close(model.trunk.state_dict()["conv1.weight"], wanted)


def test_weights_say_what_they_are(tmp_path: Path) -> None:
    """A DINO run gives its teacher: in weights.pt, and as run.model."""
    run = launch(replaced(METHODS["dino"], {"output": tmp_path, "steps": 2}), name="dino")
    for whose, file in (("teacher", "weights.pt"), ("student", "student.pt")):
        wanted = {"product": whose, "method": "DINOLoss", "step": 2}
        assert {key: value for key, value in about(run.folder / file).items() if key in wanted} == wanted
    paths = (run.folder, run.folder / "checkpoints" / "step_00000002")
    folder, checkpoint = (Load(path=path)(copy.deepcopy(run.model)) for path in paths)
    assert (folder.whose, checkpoint.whose) == ("teacher", "student")
    assert "(teacher)" in str(folder)
    state = torch.load(run.folder / "checkpoints" / "step_00000002" / "state.pt", weights_only=True)["module"]
    weights = read_weights(run.folder / "weights.pt")
    assert not run.model.training
    for name, value in weights.items():
        assert torch.equal(value, state[f"loss.teacher.model.{name}"]), name
        assert torch.equal(value, run.model.state_dict()[name]), name
    assert any(not torch.equal(value, state[f"model.{name}"]) for name, value in weights.items())
    student = replaced(METHODS["dino"], {"output": tmp_path, "steps": 2, "product": "student", "name": "student"})
    other = launch(student, name="student")
    assert about(other.folder / "weights.pt")["product"] == "student"
    assert "product          student" in plan(student, "student")
    assert "product          teacher" in plan(METHODS["dino"], "dino")


def test_what_evaluates_a_dino_run_sees_its_teacher(tmp_path: Path) -> None:
    """kNN too: the features that callbacks get are those of the teacher's trunk, not of the student's."""
    val = EvalSplitConf(source=PatchesConf(count=10), transforms=[CenterCropConf(size=16)], num_workers=0)
    asked = replaced(METHODS["dino"], {"steps": 3, "data.val": val, "callbacks": [KNNConf(k=2)]})
    trainer = tiny_trainer(asked, tmp_path)
    trainer.fit()
    assert isinstance(trainer.loss, DINOLoss)
    followed = trainer.loss.teacher.model
    assert isinstance(followed, SSLModel)
    got, _ = trainer.features(Subset.VAL)
    teacher, student = (
        Evaluation(model, trainer._data, trainer.device, trainer._unreadable).features(Subset.VAL)[0]
        for model in (followed, trainer.student)
    )
    assert torch.equal(got, teacher)
    assert not torch.allclose(got, student)
    bank, labels = trainer.features(Subset.TRAIN)
    val_labels = trainer.features(Subset.VAL)[1]
    found = knn_accuracy(bank, labels, teacher, val_labels, k=2, temperature=0.07, num_classes=4)
    assert trainer.metrics["knn_top1"] == pytest.approx(found["top1"])
