"""What counts as the same, and what the recorded arrays are read as."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import JsonValue

from tools.golden.arrays import Arrays, BrokenIndexError, Inputs, Tolerance, Tree, Unchecked, differences, unchecked

TOLERANCE = Tolerance(rtol=0.01, atol=0.1)


@pytest.mark.parametrize(
    "want, got",
    [
        (torch.tensor([10.0]), torch.tensor(10.19)),
        (10.0, 9.81),
        (torch.tensor([1, 2]), [1.05, 2.05]),
        (math.nan, math.nan),
        (math.inf, math.inf),
        ({"a": [1.0, {"b": "x"}]}, {"a": [1.0, {"b": "x"}]}),
        (None, None),
        (True, True),
        ({"a": 1.0}, {"a": Unchecked("why")}),
    ],
)
def test_the_same(want: Tree, got: Tree) -> None:
    assert list(differences(want, got, TOLERANCE)) == []


@pytest.mark.parametrize(
    "want, got, message",
    [
        (torch.tensor([10.0, 1.0]), torch.tensor([10.21, 1.0]), "x: 1 of 2 values differ, by up to 0.21"),
        (torch.zeros(2, 1), torch.zeros(1, 2), "x: got the shape (1, 2), recorded (2, 1)"),
        (torch.zeros(2), torch.zeros(()), "x: got the shape (), recorded (2,)"),
        (1.0, math.nan, "x: 1 of 1 values differ, by up to nan"),
        (1.0, "1", "x: got str, recorded float"),
        (1.0, None, "x: got NoneType, recorded float"),
        ("a", "b", "x: got 'b', recorded 'a'"),
        (False, True, "x: got True, recorded False"),
        ([1.0], [1.0, 2.0], "x: got 2, recorded 1 items"),
        ([1.0], 1.0, "x: got float, recorded 1 items"),
        ({"a": 1.0}, {"a": 1.0, "b": 1.0}, "x: got ['a', 'b'], recorded ['a']"),
        ({"a": [1.0]}, {"a": [3.0]}, "x.a[0]: 1 of 1 values differ, by up to 2"),
    ],
)
def test_not_the_same(want: Tree, got: Tree, message: str) -> None:
    assert list(differences(want, got, TOLERANCE, "x")) == [message]


def test_parts_that_are_not_compared_say_why() -> None:
    assert list(unchecked({"a": Unchecked("why"), "b": [1.0, Unchecked("and why")], "c": "text"})) == ["why", "and why"]


def test_references_become_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "some.npz", matrix=np.ones((2, 3), dtype=np.int8), scalar=np.array(1.5))
    matrix: JsonValue = {"npz": "some.npz", "key": "matrix"}
    scalar: JsonValue = {"npz": "some.npz", "key": "scalar"}
    x = Inputs(
        {"x": Arrays(tmp_path).tree({"list": [matrix, matrix], "one": scalar, "two": {"value": [2]}, "flag": True})}
    )
    inner = Inputs(dict(x.tree["x"])) if isinstance(x.tree["x"], dict) else x
    assert [tuple(array.shape) for array in inner.tensors("list")] == [(2, 3), (2, 3)]
    assert inner.tensors("list")[0].dtype is torch.int8
    assert (inner.number("one"), inner.tree["two"], inner.number("flag")) == (1.5, [2], 1.0)
    assert "two" in inner
    assert "three" not in inner


@pytest.mark.parametrize("reference", [{"npz": "some.npz", "key": "none"}, {"npz": "none.npz", "key": "a"}])
def test_references_to_nothing_are_named(tmp_path: Path, reference: dict[str, str]) -> None:
    np.savez(tmp_path / "some.npz", a=np.ones(1))
    with pytest.raises(BrokenIndexError, match=r"array '(none|a)' of .*npz"):
        Arrays(tmp_path).tree(dict(reference))


def test_inputs_of_another_kind_are_named() -> None:
    x = Inputs({"a": 1.0, "b": [1.0]})
    with pytest.raises(TypeError, match="input 'a' is float"):
        x.tensor("a")
    with pytest.raises(TypeError, match="input 'b' is float"):
        x.tensors("b")
    with pytest.raises(TypeError, match="input 'c' is NoneType, not a list; there is a, b"):
        x.parts("c")
