"""Whitening: scikit-learn's, what it makes of the fitted rows, directions without variance, signs, refusals."""

import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from ssltyped.evals.pca import FLOOR, fit_whitening


def rows(n: int = 40, width: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, width, generator=generator, dtype=torch.float64) * torch.arange(1.0, width + 1) + 3.0


@pytest.mark.parametrize("components", [1, 4, 6])
def test_is_that_of_scikit_learn_up_to_signs_and_the_number_of_rows(components: int) -> None:
    x = rows()
    pca = PCA(n_components=components, whiten=True, svd_solver="full")  # type: ignore[no-untyped-call]  # no types
    theirs = pca.fit(x.numpy())
    want = theirs.transform(x.numpy()) / math.sqrt(len(x) - 1)
    got = fit_whitening(x, components)(x).numpy()
    np.testing.assert_allclose(np.abs(got), np.abs(want), atol=1e-12)


def test_coordinates_of_the_fitted_rows_are_orthonormal() -> None:
    x = rows()
    y = fit_whitening(x, 6)(x)
    torch.testing.assert_close(y.T @ y, torch.eye(6, dtype=torch.float64))
    torch.testing.assert_close(y.mean(dim=0), torch.zeros(6, dtype=torch.float64))


def test_a_direction_without_variance_stays_small() -> None:
    x = rows()
    x[:, 0] = x[:, 1]
    projection = fit_whitening(x, 6).projection
    largest = 1 / projection.norm(dim=1).min() ** 2
    assert projection.norm(dim=1).max() == pytest.approx(float(1 / torch.sqrt(FLOOR * largest)))


def test_the_largest_entry_of_each_component_is_positive() -> None:
    """So the order of the rows does not matter, and of the negated ones the coordinates are the negated ones."""
    x = rows()
    whitening = fit_whitening(x, 6)
    assert (whitening.projection.amax(dim=1) == whitening.projection.abs().amax(dim=1)).all()
    torch.testing.assert_close(fit_whitening(x.flip(0), 6).projection, whitening.projection)
    torch.testing.assert_close(fit_whitening(-x, 6)(-x), -whitening(x))


def test_any_leading_shape_and_dtype() -> None:
    x = rows().float()
    whitening = fit_whitening(x, 3)
    assert whitening.mean.dtype is whitening.projection.dtype is torch.float32
    torch.testing.assert_close(whitening(x.reshape(4, 10, 6)), whitening(x).reshape(4, 10, 3))


@pytest.mark.parametrize("n, components", [(1, 2), (40, 7), (40, 0)])
def test_too_many_components_or_too_few_rows_are_refused(n: int, components: int) -> None:
    with pytest.raises(ValueError, match=f"{components} components of {n} rows that are 6 wide"):
        fit_whitening(rows(n), components)
