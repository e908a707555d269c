"""What methods ask of a model's outputs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ssltyped.losses.outputs import full_precision, precise, single_output, spread


def test_precise_is_float32_at_least() -> None:
    dtypes = {torch.bfloat16: torch.float32, torch.float32: torch.float32, torch.float64: torch.float64}
    assert {dtype: precise(torch.ones(2, dtype=dtype)).dtype for dtype in dtypes} == dtypes


def test_a_single_output() -> None:
    z = torch.ones(2, 3)
    assert single_output([z], "SimCLR") is z
    with pytest.raises(ValueError, match="SimCLR needs a model with exactly one output; it has 2"):
        single_output([z, z], "SimCLR")


def test_spread_is_one_on_the_sphere_and_zero_in_a_point() -> None:
    torch.manual_seed(0)
    assert spread(F.normalize(torch.randn(4000, 32), dim=1)).item() == pytest.approx(1.0, abs=0.02)
    assert spread(torch.ones(10, 4)).item() == 0.0


def test_full_precision_switches_autocast_off() -> None:
    x = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with full_precision(x):
            assert (x @ x).dtype == torch.float32
