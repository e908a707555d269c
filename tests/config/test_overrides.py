"""Overrides: what each form of the grammar does to a typed recipe, and what is said about those that are wrong."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from recipes.quickstart import quickstart
from recipes.simclr import simclr
from recipes.simclr_folder import simclr_folder
from ssltyped import config
from ssltyped.config import ConfigError, part
from ssltyped.config.overrides import find_part, override
from ssltyped.engine.parallel import Precision
from ssltyped.experiment import Experiment
from ssltyped.losses.simclr import SimCLRLossConf
from ssltyped.losses.sum_loss import SumLoss
from ssltyped.optimizers.torch_optim import AdamW
from ssltyped.types import Loss, Optimizer

RECIPE = simclr()


def after(*overrides: str, recipe: Experiment = RECIPE) -> Experiment:
    return override(recipe, overrides)


def error(*overrides: str, recipe: Experiment = RECIPE) -> dict[str, str]:
    """What is said about each field."""
    with pytest.raises(ConfigError) as caught:
        override(recipe, overrides)
    return {problem.path: problem.message for problem in caught.value.problems}


def kind(part: object) -> str:
    return config.part_of(part).target.__name__


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("loss.temperature=0.2", "loss.temperature", 0.2),
        ("loss.temperature=1", "loss.temperature", 1.0),
        ("optimizer.rate.base_lr=1e-3", "optimizer.rate.base_lr", 1e-3),
        ("heads.projector.dims=[2048,256]", "heads.projector.dims", [2048, 256]),
        ("heads.projector.dims.1=64", "heads.projector.dims", [2048, 64]),
        ("data.train.batch_size=32", "data.train.batch_size", 32),
        ("data.train.path=images", "data.train.path", Path("images")),
        ("data.train.path='/a b/c'", "data.train.path", Path("/a b/c")),
        ("precision=bf16", "precision", Precision.BF16),
        ("precision=BF16", "precision", Precision.BF16),
        ("trunk.depth=101", "trunk.depth", 101),
        ("epochs=null", "epochs", None),
        ("data.mean=[0.1,0.2,0.3]", "data.mean", (0.1, 0.2, 0.3)),
        ("++seed=3", "seed", 3),
        ("seed=int(3.7)", "seed", 3),
        ("heads.projector.feature=layer4", "heads.projector.feature", "layer4"),
        ("name=${seed}", "name", "0"),
        ("name=run_${seed}_${loss.temperature}", "name", "run_0_0.1"),
        ("data.train.views.transforms.0.size=96", "data.train.views.transforms.0.size", 96),
    ],
)
def test_a_value_is_set_in_its_declared_type(text: str, path: str, value: object) -> None:
    found = config.get(after(text), path)
    assert found == value
    assert type(found) is type(value)


def test_the_given_recipe_is_not_changed() -> None:
    before = config.to_tree(RECIPE)
    after("loss.temperature=0.7", "heads.projector.dims=[1]", "~callbacks.0", "+callbacks=KNN")
    assert config.to_tree(RECIPE) == before


def test_nothing_else_is_changed() -> None:
    assert after("loss.temperature=0.7") == simclr(temperature=0.7)
    assert after("loss.temperature=0.1") == RECIPE
    assert after() == RECIPE


@pytest.mark.parametrize("text", ["2024_01_31", "007", "1e3", "3", "true", "0x10", "-1"])
def test_a_name_is_what_was_written(text: str) -> None:
    assert after(f"name={text}").name == text
    assert after(f"output={text}").output == Path(text)


def test_a_part_is_named_by_its_class_and_has_its_defaults() -> None:
    optimizer = after("optimizer=AdamW", "optimizer.rate.lr=1e-3").optimizer
    assert kind(optimizer) == "AdamW"
    assert optimizer == config.replaced(config.config_for(AdamW)(), {"rate.lr": 1e-3})


def test_the_order_of_overrides_does_not_matter() -> None:
    assert after("optimizer.rate.lr=1e-3", "optimizer=AdamW") == after("optimizer=AdamW", "optimizer.rate.lr=1e-3")
    assert after("~callbacks.0", "callbacks.1=KNN") == after("callbacks.1=KNN", "~callbacks.0")


def test_parts_in_lists() -> None:
    names = [kind(callback) for callback in RECIPE.callbacks]
    assert [kind(c) for c in after("+callbacks=KNN").callbacks] == [*names, "KNN"]
    assert [kind(c) for c in after("+callbacks=KNN", "+callbacks=NaNGuard").callbacks] == [*names, "KNN", "NaNGuard"]
    assert [kind(c) for c in after("~callbacks.1").callbacks] == [names[0], *names[2:]]
    assert [kind(c) for c in after("callbacks=[KNN,NaNGuard]").callbacks] == ["KNN", "NaNGuard"]
    assert [kind(c) for c in after("callbacks.0=KNN").callbacks] == ["KNN", *names[1:]]
    assert after("callbacks=[]").callbacks == []


def test_removing_a_field_gives_its_default() -> None:
    assert after("~optimizer.momentum", recipe=override(RECIPE, ["optimizer.momentum=0.5"])) == RECIPE
    assert after("~loss.temperature", recipe=simclr(temperature=0.7)) == RECIPE


def test_a_part_where_there_was_none() -> None:
    changed = after(
        "data.val=EvalSplit",
        "data.val.path=labelled",
        "data.val.transforms=[Resize,CenterCrop]",
        "data.val.transforms.0.size=96",
        "data.val.transforms.1.size=96",
        "data.train.path=images",
        recipe=simclr_folder(),
    )
    assert changed.data.val is not None
    assert [config.get(t, "size") for t in changed.data.val.transforms] == [96, 96]


def test_a_part_of_a_recipe_can_be_overridden_too() -> None:
    assert override(SimCLRLossConf(), ["temperature=0.3"]) == SimCLRLossConf(temperature=0.3)


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("los.temperature=0.2", "los", "Experiment has no such field; did you mean 'loss'?"),
        ("loss.temprature=0.2", "loss.temprature", "SimCLRLoss has no such field; did you mean 'temperature'?"),
        ("optimizer.lr=0.1", "optimizer.lr", "SGD has no such field; did you mean 'rate.lr'?"),
        ("loss.temperature=hot", "loss.temperature", "got 'hot': input should be a valid number"),
        ("loss.temperature=true", "loss.temperature", "got true: input should be a valid number"),
        ("loss.temperature=0", "loss.temperature", "got 0: input should be greater than 0"),
        ("loss.temperature=nan", "loss.temperature", "got nan: input should be a finite number"),
        ("epochs=1.5", "epochs", "got 1.5: input should be a valid integer"),
        ("heads.projector.dims=[]", "heads.projector.dims", "want a list of int > 0 len >= 1"),
        ("heads.projector.dims=[2048,x]", "heads.projector.dims.1", "got 'x': input should be a valid integer"),
        ("heads.projector.dims=2048", "heads.projector.dims", "got 2048: input should be a list, in brackets"),
        ("callbacks.9.every=1", "callbacks.9", "no such item: callbacks has"),
        ("heads.2.dims=[1]", "heads.2", "heads has no '2'; known: projector; +heads.2=CLASS adds one"),
        ("heads.x=MLPHead", "heads.x", "heads has no 'x'"),
        ("trunk.depth=51", "trunk.depth", "got 51: input should be 18, 34, 50, 101, 152 or 200"),
        ("trunk.stem=smal", "trunk.stem", "did you mean 'small'?"),
        ("precision=double", "precision", "'fp32', 'bf16' or 'fp16'"),
        ("loss=SimCLRLos", "loss", "no Loss is called 'SimCLRLos'; did you mean 'SimCLRLoss'?"),
        ("loss=AdamW", "loss", "got AdamW, which is no Loss (there is"),
        ("callbacks.0=AdamW", "callbacks.0", "got AdamW, which is no Callback"),
        ("loss=0.1", "loss", "got 0.1: needs a Loss"),
        ("loss={temperature:0.2}", "loss", "needs a Loss"),
        ("data.val.path=x", "data.val.path", "data.val is not set and has no fields; set it to a part first"),
        ("epochs.x=1", "epochs.x", "epochs is the value 100 and has no fields"),
        ("~trunk", "trunk", "required: Trunk"),
        ("heads={a:MLPHead}", "heads.a.dims", "required: list of int > 0"),
        ("heads=[MLPHead]", "heads", "got [MLPHead]"),
        ("~nothing", "nothing", "Experiment has no such field"),
        ("epochs", "epochs", "not an override (want path=value)"),
        ("a b=1", "a b=1", "not an override"),
        ("loss@x=SimCLRLoss", "loss@x=SimCLRLoss", "there are no packages here"),
        ("seed=1,2", "seed", "'seed=1,2' is a sweep: add --multirun"),
        ("seed=range(3)", "seed", "is a sweep"),
        ("seed=${no.such}", "seed", "no.such"),
        ("loss.temperature=${loss.temperature}", "loss.temperature", "ecursive"),
        ("seed=???", "seed", "required: int >= 0 < 9223372036854775808; set it with seed=VALUE"),
        ("loss._target_=os.system", "loss._target_", "cannot be set; replace the part by its class: loss=CLASS"),
        ("loss={_target_:os.system}", "loss", "_target_ cannot be set"),
        ("callbacks=[{_target_:os.system}]", "callbacks.0", "_target_ cannot be set"),
        ("name={a:{_target_:os.system}}", "name", "got"),
        ("loss=os:system", "loss", "os has no component 'system'"),
        ("loss=no_such_module:MyLoss", "loss", "cannot be imported: ModuleNotFoundError"),
        ("loss=..:X", "loss", "'..:X' names no class: want CLASS or package.module:CLASS"),
        ("epochs=" + "9" * 5000, "epochs=" + "9" * 110 + "...", "not an override"),
        ("data.mean=" + "[" * 1500 + "]" * 1500, "data.mean=" + "[" * 107 + "...", "recursion"),
    ],
)
def test_a_wrong_override_is_named_with_what_is_allowed(text: str, path: str, message: str) -> None:
    found = error(text)
    assert list(found) == [path]
    assert message in found[path]
    others = {part.name for part in config.parts().values() if not part.target.__module__.startswith("ssltyped.")}
    ours = re.sub(rf"\b({'|'.join(others)}), ", "", found[path])  # parts of other tests of this process are listed too
    assert len(ours) < 500


def test_all_errors_come_at_once() -> None:
    found = error("los=1", "loss.temperature=-1", "epochs", "heads.projector.dims=[x]", "optimizer=Adan")
    assert set(found) == {"los", "loss.temperature", "epochs", "heads.projector.dims.0", "optimizer"}


def test_a_list_too_deep_to_look_for_references_in_is_an_error() -> None:
    assert "recursion" in error("heads.projector.dims=" + "[" * 300 + "]" * 300, "name=${seed}")[""]


def test_a_required_field_is_asked_for() -> None:
    assert error(recipe=simclr_folder()) == {
        "data.train.path": "required: Path | null; set it with data.train.path=VALUE"
    }
    assert after("data.train.path=x", recipe=simclr_folder()).data.train.path == Path("x")


# --- parts of one's own ---------------------------------------------------------------------------------------

OWN_LOSS = '''
from typing import Annotated
from annotated_types import Gt
from ssltyped.config import INFERRED, config_for
from ssltyped.types import Batch, Loss, Model, Moment, StepOutput

class MyLoss(Loss):
    """Mean of the outputs.

    Args:
        weight: factor.
        head: the head that is read.
    """

    def __init__(self, *, weight: Annotated[float, Gt(0)] = 2.0, head: str = INFERRED) -> None:
        super().__init__()
        self.weight, self.head = weight, head

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        return StepOutput(loss=model(batch.views).of(self.head).mean() * self.weight)

class Unregistered(MyLoss):
    pass

MyLossConf = config_for(MyLoss)
'''


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a package of a user's, in the folder where the command runs."""
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "losses.py").write_text(OWN_LOSS)
    (tmp_path / name / "broken.py").write_text("x = 1\ny = x +\n")
    (tmp_path / name / "raises.py").write_text("x = 1\nprint(undefined)\n")
    (tmp_path / name / "positional.py").write_text(OWN_LOSS.replace("self, *, weight", "self, weight"))
    (tmp_path / name / "untyped.py").write_text(OWN_LOSS.replace("weight: Annotated[float, Gt(0)] = 2.0", "weight=2.0"))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    for module in [module for module in sys.modules if module.split(".")[0] == name]:
        del sys.modules[module]


@pytest.mark.parametrize("between", [":", "."])
def test_a_loss_of_ones_own(own_package: str, between: str) -> None:
    changed = after(f"loss={own_package}.losses{between}MyLoss", "loss.weight=3")
    assert kind(changed.loss) == "MyLoss"
    assert config.get(changed, "loss.weight") == 3.0
    assert config.from_yaml(config.to_yaml(changed)) == changed


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("losses:MyLos", "loss", "has no component 'MyLos'"),
        ("losses:Unregistered", "loss", "UnregisteredConf = config_for(Unregistered)"),
        ("nowhere:MyLoss", "loss", "No module named"),
        ("broken:MyLoss", "loss", "SyntaxError: invalid syntax"),
        ("raises:MyLoss", "loss", "NameError: name 'undefined' is not defined"),
        ("positional:MyLoss", "loss", "keyword-only and typed; not so: weight"),
        ("untyped:MyLoss", "loss", "keyword-only and typed; not so: weight"),
    ],
)
def test_what_is_wrong_with_a_module_of_ones_own(own_package: str, text: str, path: str, message: str) -> None:
    found = error(f"loss={own_package}.{text}")
    assert list(found) == [path]
    assert message in found[path]
    assert "\n" not in found[path]


@pytest.mark.parametrize(("file", "line"), [("broken", 2), ("raises", 2)])
def test_the_line_that_fails_is_named(own_package: str, file: str, line: int) -> None:
    message = error(f"loss={own_package}.{file}:MyLoss")["loss"]
    assert f"{file}.py, line {line})" in message


def test_a_part_of_ones_own_is_checked_like_any_other(own_package: str) -> None:
    assert error(f"loss={own_package}.losses:MyLoss", "loss.weigth=3") == {
        "loss.weigth": "MyLoss has no such field; did you mean 'weight'?"
    }
    assert "greater than 0" in error(f"loss={own_package}.losses:MyLoss", "loss.weight=-3")["loss.weight"]
    assert "which is no Optimizer" in error(f"optimizer={own_package}.losses:MyLoss")["optimizer"]


def test_finding_a_part_by_name() -> None:
    assert find_part("AdamW", [Optimizer], "optimizer").target is AdamW
    assert find_part("ssltyped.optimizers.torch_optim:AdamW", [Optimizer], "optimizer").target is AdamW
    with pytest.raises(ConfigError, match="no Loss is called 'Adan'"):
        find_part("Adan", [Loss], "loss")


def test_a_dict_of_parts_from_nothing() -> None:
    """What has no default is empty, and not what Python writes for that."""
    sums = override(RECIPE, ["loss=SumLoss", "+loss.losses.a=SimCLRLoss", "loss.losses.a.head=projector"])
    assert kind(part(sums.loss, SumLoss).losses["a"]) == "SimCLRLoss"
    with pytest.raises(ConfigError, match=r"^loss.teacher: required: FrozenTeacher; set it with loss.teacher=VALUE$"):
        override(RECIPE, ["loss=DistillationLoss", "loss.teacher.trunk.depth=18"])


def test_interpolation_follows_the_other_override() -> None:
    assert after("seed=7", "name=s${seed}").name == "s7"
    assert quickstart().seed == 0


def test_an_item_of_a_tuple_can_be_set() -> None:
    changed = override(quickstart(), ["data.mean.1=0.25", "optimizer.betas.0=0.8"])
    assert changed.data.mean == (0.5, 0.25, 0.5)
    assert config.get(changed, "optimizer.betas") == (0.8, 0.999)


def test_removed_items_are_counted_as_they_stood_in_the_recipe() -> None:
    names = [config.part_of(c).target.__name__ for c in quickstart().callbacks]
    left = override(quickstart(), ["~callbacks.1", "~callbacks.2"]).callbacks
    assert [config.part_of(c).target.__name__ for c in left] == [names[0], *names[3:]]


# --- what to write instead --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer=adamw", "no Optimizer is called 'adamw'; did you mean 'AdamW'?"),
        ("optimizer=ADAM", "no Optimizer is called 'ADAM'; did you mean 'Adam'?"),
        ("optimizer=sgd", "no Optimizer is called 'sgd'; did you mean 'SGD'?"),
        ("loss=moco", "no Loss is called 'moco'; did you mean 'MoCoLoss'?"),
        ("loss=barlow", "no Loss is called 'barlow'; did you mean 'BarlowTwinsLoss'?"),
    ],
)
def test_the_nearest_part_is_found_whatever_its_capitals(text: str, message: str) -> None:
    assert list(error(text).values()) == [message]


def test_a_part_of_another_kind_names_all_that_there_are() -> None:
    """Also those whose modules nobody has imported yet."""
    message = error("loss=AdamW")["loss"]
    for name in ("SimCLRLoss", "MoCoLoss", "SwAVLoss", "DINOLoss", "IBOTLoss", "MemoryBankLoss", "BarlowTwinsLoss"):
        assert name in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grad_clip=None", "got None: write grad_clip=null"),
        ("data.val=None", "got None: write data.val=null"),
        ("optimizer.rate.lr=none", "got none: write optimizer.rate.lr=null"),
        ("name=None", "got None: write name=null, or, for a text, \"name='None'\""),
        ("compiled=yes", "got 'yes': input should be true or false"),
        ("seed=null", "got null: input should be a valid integer"),
        ("seed=True", "got true: input should be a valid integer"),
        ("optimizer.momentum=None", "got 'None': input should be a valid number"),  # null would be as wrong
    ],
)
def test_words_of_python_and_their_words_here(text: str, message: str) -> None:
    assert error(text) == {text.partition("=")[0]: message}


def test_a_text_may_be_none_in_quotes() -> None:
    assert after("name='None'").name == "None"


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("~callbacks.NaNGuard", "callbacks.NaNGuard", "callbacks has 5, counted from 0: 0 ProgressBar, 1 MetricsFile,"),
        ("~callbacks.9", "callbacks.9", "3 NaNGuard"),
        ("~epochs=3", "epochs", "a removal takes no value: write ~epochs"),
        ("freeze.0.parts=[trunk]", "freeze.0", "no such item: freeze has none yet"),
        ("+heads=MLPHead", "heads", "holds its items by name: write +heads.NAME=MLPHead"),
        ("heads.projector.dims=[]", "heads.projector.dims", "got []: has 0 items; want a list of int > 0 len >= 1"),
        ("heads.projector.dims=3", "heads.projector.dims", "in brackets: list of int > 0 len >= 1; one item is [3]"),
        ("callbacks=KNN", "callbacks", "in brackets: list of Callback; one item is [KNN]"),
        (
            "data.train.views.transforms.0.scale=[1]",
            "data.train.views.transforms.0.scale",
            "got [1]: has 1 item; want a tuple of float, float",
        ),
        ("data.mean=[1,2,x]", "data.mean.2", "got 'x': input should be a valid number"),
        ("heads=3", "heads", "got 3: input should be a dict by name, {NAME: VALUE}"),
    ],
)
def test_what_is_wrong_with_a_list_or_a_dict(text: str, path: str, message: str) -> None:
    found = error(text)
    assert message in found[path]


def test_adding_to_what_is_not_set() -> None:
    """A list that is null begins with what is added; several items are added one by one, and a dict keeps its own."""
    intervals = after("schedule=Composite", "+schedule.intervals=fixed", "+schedule.intervals=rescaled",
                      "schedule.schedulers=[Cosine,Cosine]", "schedule.lengths=[0.5,0.5]")  # fmt: skip
    assert [one.value for one in config.get(intervals, "schedule.intervals")] == ["fixed", "rescaled"]
    assert [kind(one) for one in after("+callbacks=[KNN,NaNGuard]").callbacks[-2:]] == ["KNN", "NaNGuard"]
    assert list(after("+heads={more:{dims:[3]}}", "heads.more=MLPHead", "heads.more.dims=[3]").heads) == [
        "projector",
        "more",
    ]


def test_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert after("output='~/runs'").output == tmp_path / "runs"
    assert after("output='a/~/b'").output == Path("a/~/b")
    assert "nobody's home folder" in error("output='~no_such_user_here/x'")["output"]


def test_what_lies_below_a_wrong_part_is_beside_the_point() -> None:
    """It would be said of the part that stood there before, or of none; a path is told once."""
    assert list(error("trunk=ResNett", "trunk.patch_size=4", "trunk.stem=odd")) == ["trunk"]
    assert list(error("optimizer=3.5", "optimizer.betas=[1,1]", "seed=-1")) == ["optimizer", "seed"]
    with pytest.raises(ConfigError) as caught:
        override(RECIPE, ["freeze.0.parts=[a]", "freeze.0.epochs=1"])
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("text", ["seed=" + "9" * 19, "epochs=" + "9" * 400, "seed=-" + "9" * 30])
def test_numbers_that_no_tensor_can_hold(text: str) -> None:
    assert "input should be " in error(text)[text.partition("=")[0]]


def test_an_override_without_a_field() -> None:
    assert error("=3") == {"'=3'": "not an override (want path=value): it names no field"}
    assert list(error("")) == ["''"]


def test_a_class_is_spelled_as_it_is_in_an_error() -> None:
    assert error("trunk=SeveralInputs")["trunk"].startswith("got SeveralInputs, which is no Trunk (there is AlexNet")
    assert error("optimizer=3")["optimizer"].startswith("got 3: needs an Optimizer (")
