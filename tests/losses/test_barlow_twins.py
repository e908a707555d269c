"""Barlow Twins beyond what `test_proofs.py` proves of every loss."""

from __future__ import annotations

import pytest
import torch
from losses.direct import MatrixModel, batch_of, outcome
from losses.proofs import HEAD, at, waves
from losses.told import problems
from methods import METHODS

from ssltyped.config import replaced
from ssltyped.losses.barlow_twins import BarlowTwinsLoss, Standardize, standardized
from ssltyped.model.model import Passes
from ssltyped.resolution import resolve_experiment


def test_standardized_rows_have_mean_0_and_variance_1() -> None:
    x = standardized(waves(64, 5) * 7 + 3, eps=0.0)
    torch.testing.assert_close(x.mean(dim=0), torch.zeros(5, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(x.var(dim=0, correction=0), torch.ones(5, dtype=torch.float64))


def test_equal_views_of_uncorrelated_features_cost_nothing() -> None:
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    assert outcome(BarlowTwinsLoss(head=HEAD, scale=1.0), [signs, signs], torch.eye(2, dtype=torch.float64)).loss < 1e-9


@pytest.mark.parametrize(("standardize", "agree"), [(Standardize.VIEW, True), (Standardize.JOINT, False)])
def test_views_of_two_distributions_agree_when_each_is_standardized(standardize: Standardize, agree: bool) -> None:
    """The second view is a brighter first one: b = 3 a + 20. Jointly the means alone make what is correlated."""
    first = waves(64, 5)
    loss = BarlowTwinsLoss(head=HEAD, standardize=standardize)
    found = loss.step(MatrixModel(torch.eye(5, dtype=torch.float64)), batch_of([first, 3 * first + 20]), at(0))
    assert (found.logs["diagonal"].item() == pytest.approx(1, abs=1e-3)) == agree


def test_each_view_goes_through_the_network_alone() -> None:
    """Unless the recipe says otherwise; the plan says why."""
    resolution = resolve_experiment(METHODS["barlow_twins"])
    assert resolution.config.passes is Passes.APART
    assert "BarlowTwinsLoss is defined view by view" in [row.rule for row in resolution.rows]
    joint = resolve_experiment(replaced(METHODS["barlow_twins"], {"passes": Passes.SIZE}))
    assert joint.config.passes is Passes.SIZE


def test_redundant_features_cost_lambda_each() -> None:
    column = torch.tensor([[1.0], [-1.0]], dtype=torch.float64).repeat(1, 3)
    loss = outcome(
        BarlowTwinsLoss(head=HEAD, lambda_off=0.01, scale=1.0), [column, column], torch.eye(3, dtype=torch.float64)
    ).loss
    assert loss.item() == pytest.approx(6 * 0.01, rel=1e-4), "six entries off the diagonal are 1"


def test_mistakes_are_named() -> None:
    assert "exactly 2 views of every image; the data makes 3" in problems(BarlowTwinsLoss(head=HEAD), num_views=3)
    assert "at least 2 images" in problems(BarlowTwinsLoss(head=HEAD), batch_size=1)
    with pytest.raises(ValueError, match="the batch has 3"):
        BarlowTwinsLoss(head=HEAD).step(MatrixModel(torch.eye(4)), batch_of([waves(4, 4)] * 3), at(0))
