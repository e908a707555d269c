"""Shapes are checked in every test: a wrong one is an error at the function that got or gave it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import shapes
import torch
from beartype.roar import BeartypeCallHintParamViolation, BeartypeCallHintReturnViolation
from jaxtyping import Float
from torch import Tensor

from ssltyped.distributed import gather
from ssltyped.schedulers.cosine import Cosine
from ssltyped.transforms.opencv import to_array, to_image


def paired(x: Float[Tensor, "B D"], y: Float[Tensor, "B D"]) -> Float[Tensor, "D B"]:
    return x if len(x) == 5 else (x + y).T


PAIRED = shapes.jaxtyped(typechecker=shapes.checked)(paired)


@pytest.mark.parametrize(
    ("x", "y", "error"),
    [
        (torch.ones(2, 3), torch.ones(2, 3), None),
        (torch.ones(2, 3), torch.ones(2, 4), BeartypeCallHintParamViolation),
        (torch.ones(2, 3), torch.ones(3), BeartypeCallHintParamViolation),
        (torch.ones(2, 3, dtype=torch.int64), torch.ones(2, 3), BeartypeCallHintParamViolation),
        (torch.ones(5, 3), torch.ones(5, 3), BeartypeCallHintReturnViolation),
    ],
)
def test_a_letter_is_one_size_in_a_call(x: Tensor, y: Tensor, error: type[Exception] | None) -> None:
    assert callable(PAIRED)
    if error is None:
        assert PAIRED(x, y).shape == (3, 2)
        assert PAIRED(x[:1], y[:1]).shape == (3, 1), "the next call is another one"
    else:
        with pytest.raises(error):
            PAIRED(x, y)


def test_ours_are_checked() -> None:
    """Functions, methods, what has shapes and what has none; also after a mistake in another."""
    calls: list[tuple[Callable[..., object], object]] = [
        (to_array, torch.zeros(3, 4, 4)),
        (to_image, np.zeros((4, 4, 3), dtype=np.float32)),
        (gather, torch.zeros(3, dtype=torch.int64)),
        (Cosine(start=1.0, end=0.0), "0.5"),
    ]
    for call, wrong in calls:
        with pytest.raises(BeartypeCallHintParamViolation):
            call(wrong)


def test_every_part_that_is_named_is_there() -> None:
    root = Path(shapes.__file__).parents[1] / "src" / "ssltyped"
    named = {file.relative_to(root).with_suffix("").as_posix().replace("/", ".") for file in root.rglob("*.py")}
    for part in shapes.PARTS:
        assert any(f"{module}.".startswith(f"{part}.") for module in named), part
