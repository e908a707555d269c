"""Composition: files over the defaults, fragments and values over files, numbers, and every error at once."""

from pathlib import Path

import pytest

from ssltyped.config import ConfigError
from ssltyped.interop.vissl.yaml import Tree, Value, compose, merge, read


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    texts = {
        "defaults.yaml": """
            defaults: [_self_, {config: '???'}]
            hydra: {verbose: true}
            config: {OPTIMIZER: {name: sgd, lr: 1e-4, betas: [0.9, 0.999]}, LOSS: {name: a, a: {t: 1}}}""",
        "config/pretrain/simclr/small.yaml": "# @package _global_\nconfig: {OPTIMIZER: {lr: .5E3, betas: [0.8]}}",
        "config/pretrain/simclr/models/wide.yaml": "config: {OPTIMIZER: {lr: 2}, MODEL: {width: 2.}}",
        "config/broken.yaml": "config: [",
        "config/list.yaml": "- 1",
        "config/nested.yaml": "defaults: [small]",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


SMALL = "config=pretrain/simclr/small"


def test_files_merge_in_their_order_and_lists_are_replaced(configs: Path) -> None:
    tree = compose(configs, [SMALL])
    assert tree == {
        "config": {"OPTIMIZER": {"name": "sgd", "lr": 500.0, "betas": [0.8]}, "LOSS": {"name": "a", "a": {"t": 1}}}
    }
    with_fragment = compose(configs, ["config.OPTIMIZER.name=adam", SMALL, "+config/pretrain/simclr/models=wide"])
    assert with_fragment["config"] == {
        "OPTIMIZER": {"name": "adam", "lr": 2, "betas": [0.8]},
        "LOSS": {"name": "a", "a": {"t": 1}},
        "MODEL": {"width": 2.0},
    }


def test_what_was_composed_before_is_not_changed(configs: Path) -> None:
    before = compose(configs, [SMALL])
    compose(configs, [SMALL, "config.OPTIMIZER.betas=[1,2]", "config.LOSS.a.t=5"])
    assert compose(configs, [SMALL]) == before


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("config.OPTIMIZER.lr=1e-5", "OPTIMIZER.lr", 1e-5),
        ("config.LOSS.name=b", "LOSS.name", "b"),
        ("config.LOSS.name=''", "LOSS.name", ""),
        ("config.OPTIMIZER.betas=[1,'x',{a:null}]", "OPTIMIZER.betas", [1, "x", {"a": None}]),
        ("config.LOSS.a={u:[1,2]}", "LOSS.a", {"t": 1, "u": [1, 2]}),
        ("+config.NEW.deep=True", "NEW.deep", True),
        ("++config.LOSS.a.t=7", "LOSS.a.t", 7),
    ],
)
def test_a_value_is_set_as_hydra_reads_it(configs: Path, override: str, path: str, value: object) -> None:
    node: object = compose(configs, [SMALL, override])["config"]
    for step in path.split("."):
        assert isinstance(node, dict)
        node = node[step]
    assert node == value
    assert type(node) is type(value)


def test_a_key_is_removed(configs: Path) -> None:
    assert compose(configs, [SMALL, "~config.LOSS.a"])["config"] == {
        "OPTIMIZER": {"name": "sgd", "lr": 500.0, "betas": [0.8]},
        "LOSS": {"name": "a"},
    }


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "no configuration is named"),
        (["config=pretrain/simclr/smal"], "there is no such file; did you mean 'small'?"),
        ([SMALL, "config.OPTIMIZER.learning_rate=1"], "there is no 'learning_rate'"),
        ([SMALL, "config.OPTIMISER.lr=1"], "there is no 'OPTIMISER' (+ adds one); did you mean 'OPTIMIZER'?"),
        ([SMALL, "config.OPTIMIZER.lr.x=1"], "which is a value"),
        ([SMALL, "config.OPTIMIZER.lr=1,2"], "is a sweep"),
        ([SMALL, "config.OPTIMIZER.lr=]"], "not an override"),
        (["config=[a]"], "want the name of a file"),
        (["config=broken"], "is no YAML"),
        (["config=list"], "is no mapping"),
        (["config=nested"], "has a defaults list"),
    ],
)
def test_every_mistake_is_named(configs: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(configs, overrides)
    assert message in str(caught.value)


def test_all_mistakes_come_at_once(configs: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(configs, ["config=none", "config.A=1", "b=]"])
    assert len(caught.value.problems) == 3


def test_a_changed_file_is_read_again(configs: Path) -> None:
    path = configs / "config" / "other.yaml"
    path.write_text("a: 1")
    assert read(path) == {"a": 1}
    path.write_text("a: 22")
    assert read(path) == {"a": 22}


def test_merging_copies() -> None:
    added: list[Value] = [1]
    tree: Tree = {"a": {"b": 1}}
    merge(tree, {"a": {"c": added}, "d": {"e": 2}})
    added.append(2)
    assert tree == {"a": {"b": 1, "c": [1]}, "d": {"e": 2}}
