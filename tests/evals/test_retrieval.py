"""Retrieval: pooling and regions in plain loops, rankings of known quality, whitening as scikit-learn's."""

import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from ssltyped.evals.retrieval import (
    FLOOR,
    GroundTruth,
    ap_of_ranks,
    fit_whitening,
    gem,
    multiscale_gem,
    ranking,
    rmac,
    rmac_regions,
    rmac_vectors,
    score_rankings,
)


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


def maps(height: int = 5, width: int = 8) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.1


@pytest.mark.parametrize("p", [2.0, 3.0, 4.5])
def test_generalized_mean_in_plain_loops(p: float) -> None:
    x = maps()
    for image, pooled in zip(x.tolist(), gem(x, p).tolist(), strict=True):
        for channel, value in zip(image, pooled, strict=True):
            pixels = [max(pixel, 1e-6) for row in channel for pixel in row]
            assert value == pytest.approx((sum(pixel**p for pixel in pixels) / len(pixels)) ** (1 / p))


def test_generalized_mean_runs_from_the_mean_to_the_maximum() -> None:
    x = maps()
    torch.testing.assert_close(gem(x, 1.0), x.mean(dim=(2, 3)))
    torch.testing.assert_close(gem(x, math.inf), x.amax(dim=(2, 3)))
    torch.testing.assert_close(gem(x, 500.0), x.amax(dim=(2, 3)), rtol=0.02, atol=0)


def test_activations_are_clamped_unless_told() -> None:
    x = maps()
    assert (x < 0).any()
    torch.testing.assert_close(gem(x, 3.0), gem(x.clamp(min=1e-6), 3.0, clamp=False))
    assert not torch.equal(gem(x, 2.0, clamp=False), gem(x, 2.0))


def test_a_bias_is_one_more_value() -> None:
    x = maps()
    torch.testing.assert_close(gem(x, 3.0, bias=True), torch.cat([gem(x, 3.0), torch.ones(2, 1).double()], dim=1))
    torch.testing.assert_close(multiscale_gem([x, x], 3.0, bias=True), gem(x, 3.0, bias=True))


def test_scales_are_averaged() -> None:
    x = [maps(), maps(4, 4)]
    torch.testing.assert_close(multiscale_gem(x, 3.0), (gem(x[0]) + gem(x[1])) / 2)


@pytest.mark.parametrize("size, extra", [((7, 7), (0, 0)), ((5, 8), (0, 1)), ((20, 14), (1, 0)), ((4, 12), (0, 3))])
def test_regions_cover_the_map_and_follow_its_shape(size: tuple[int, int], extra: tuple[int, int]) -> None:
    height, width = size
    regions = rmac_regions(height, width, 3)
    assert len(regions) == sum((level + extra[0]) * (level + extra[1]) for level in (1, 2, 3))
    assert [region.side for region in regions] == sorted((region.side for region in regions), reverse=True)
    first = [region for region in regions if region.side == min(size)]
    seen = torch.zeros(size)
    for left, top, side in regions:
        assert 0 <= left <= width - side
        assert 0 <= top <= height - side
    for left, top, side in first:
        seen[top : top + side, left : left + side] = 1
    assert seen.all()


def test_neighbours_of_the_first_level_overlap_by_about_two_fifths() -> None:
    for width in range(8, 30):
        starts = [region.left for region in rmac_regions(7, width, 1)]
        share = 1 - (width - 7) / (len(starts) - 1) / 7
        others = [1 - (width - 7) / (count - 1) / 7 for count in range(2, 8)]
        assert abs(share - 0.4) == min(abs(other - 0.4) for other in others)


def test_regional_maxima_in_plain_loops() -> None:
    x = maps()
    vectors = rmac_vectors(x, 2, normalize=False)
    for number, (left, top, side) in enumerate(rmac_regions(5, 8, 2)):
        for image in range(2):
            for channel in range(3):
                pixels = [float(x[image, channel, top + i, left + j]) for i in range(side) for j in range(side)]
                assert float(vectors[image, number, channel]) == max(pixels)
    torch.testing.assert_close(rmac_vectors(x, 2).norm(dim=2), torch.ones(2, len(rmac_regions(5, 8, 2))).double())


def test_descriptor_is_the_sum_of_its_regions() -> None:
    x = maps()
    total = rmac_vectors(x, 3).sum(dim=1)
    torch.testing.assert_close(rmac(x), total / total.norm(dim=1, keepdim=True))


def test_regions_are_whitened_before_they_are_added() -> None:
    x = maps()
    vectors = rmac_vectors(x, 3)
    whitening = fit_whitening(vectors.flatten(0, 1), 2)
    whitened = whitening(vectors)
    total = (whitened / whitened.norm(dim=2, keepdim=True)).sum(dim=1)
    torch.testing.assert_close(rmac(x, whitening=whitening), total / total.norm(dim=1, keepdim=True))


def test_the_most_similar_image_comes_first() -> None:
    database = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    assert ranking(database, torch.tensor([[1.0, 0.1], [0.0, 1.0]])).T.tolist() == [[0, 2, 1], [1, 2, 0]]


def test_average_precision_is_the_area_below_a_line() -> None:
    """Between recall j / n and (j + 1) / n it runs from the precision before the image to the one with it."""
    assert ap_of_ranks([0, 1, 2], 3) == 1.0
    assert ap_of_ranks([], 3) == 0.0
    assert ap_of_ranks([1], 1) == pytest.approx((0 + 1 / 2) / 2)
    assert ap_of_ranks([0, 3], 4) == pytest.approx((1 + 1) / 8 + (1 / 3 + 2 / 4) / 8)


def test_ignored_images_might_as_well_not_be_there() -> None:
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    junk = [4, 7, 9]
    kept = torch.tensor([image for image in order.tolist() if image not in junk])
    relevant = [0, 3, 11]
    with_junk = score_rankings(order[:, None], [GroundTruth(relevant, junk)], [1, 5])
    without = score_rankings(kept[:, None], [GroundTruth(relevant)], [1, 5])
    counted = score_rankings(order[:, None], [GroundTruth(relevant)], [1, 5])
    assert with_junk.mean_ap == without.mean_ap != counted.mean_ap
    assert torch.equal(with_junk.precisions, without.precisions)


def test_precision_stops_at_the_last_relevant_image() -> None:
    scores = score_rankings(torch.arange(8)[:, None], [GroundTruth([0, 3])], [1, 2, 4, 8])
    assert scores.precisions.tolist() == [[1.0, 0.5, 0.5, 0.5]]
    assert scores.mean_precisions.tolist() == [1.0, 0.5, 0.5, 0.5]


def test_a_query_without_relevant_images_is_left_out_of_the_means() -> None:
    ranks = torch.arange(5)[:, None].repeat(1, 3)
    truth = [GroundTruth([0]), GroundTruth([], [1]), GroundTruth([4])]
    scores = score_rankings(ranks, truth, [1])
    assert math.isnan(float(scores.aps[1]))
    assert scores.mean_ap == pytest.approx((1.0 + ap_of_ranks([4], 1)) / 2)
    assert scores.mean_precisions.tolist() == [0.5]


def test_relevant_images_that_are_not_ranked_were_not_found() -> None:
    scores = score_rankings(torch.arange(5)[:, None], [GroundTruth([7, 8])], [1])
    assert (scores.mean_ap, scores.precisions.tolist()) == (0.0, [[0.0]])


def test_another_number_of_queries_is_refused() -> None:
    with pytest.raises(ValueError, match="there are 2 rankings, and the truth of 1 queries"):
        score_rankings(torch.zeros(4, 2, dtype=torch.int64), [GroundTruth([0])])


@pytest.mark.parametrize("relevant", [[0, 1], [2, 4], [3, 4]])
def test_equal_similarities_rank_the_relevant_images_last(relevant: list[int]) -> None:
    """Descriptors that are all the same: of five images, the two relevant ones are the last whatever their numbers."""
    truth = [GroundTruth(relevant)]
    order = ranking(torch.ones(5, 3), torch.ones(1, 3), truth)
    assert sorted(order[3:, 0].tolist()) == relevant
    assert score_rankings(order, truth).mean_ap == pytest.approx((0 / 3 + 1 / 4 + 1 / 4 + 2 / 5) / 4)


def test_nan_is_the_least_similar() -> None:
    database = torch.tensor([[math.nan], [-1.0], [2.0]])
    assert ranking(database, torch.ones(1, 1)).T.tolist() == [[2, 1, 0]]
