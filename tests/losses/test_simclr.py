"""SimCLR and multi-crop SimCLR beyond what `test_proofs.py` proves of every loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

import pytest
import torch
from losses.direct import MatrixModel, batch_of, outcome
from losses.proofs import HEAD, NOTHING, at, waves
from losses.told import problems
from ranks import run_on_ranks
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from ssltyped import distributed
from ssltyped.config import ConfigError, build
from ssltyped.losses.simclr import MultiCropSimCLRLoss, SimCLRLoss, SimCLRLossConf
from ssltyped.types import Facts, Outputs

IDENTITY = torch.eye(8, dtype=torch.float64)


def _views(images: int = 6, dim: int = 8, count: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(images, dim, generator=generator, dtype=torch.float64) for _ in range(count)]


def _facts(batch_size: int = 256, world_size: int = 8, num_views: int = 2) -> Facts:
    return Facts(
        world_size=world_size,
        ranks_per_node=1,
        batch_size=batch_size,
        accumulation=1,
        num_views=num_views,
        crop_sizes=(32,) * num_views,
        feature_dims={},
    )


def simclr(temperature: float = 0.1) -> SimCLRLoss:
    return SimCLRLoss(head=HEAD, temperature=temperature, chunk_size=512)


def test_gradcheck() -> None:
    loss = SimCLRLoss(head=HEAD, temperature=0.3, chunk_size=5)
    model = MatrixModel(IDENTITY)

    def value(first: Tensor, second: Tensor) -> Tensor:
        return loss.step(model, batch_of([first, second]), at(0)).loss

    assert torch.autograd.gradcheck(value, [view.requires_grad_() for view in _views()])


def test_the_chunk_size_changes_nothing() -> None:
    whole = outcome(simclr(), _views(), IDENTITY)
    for chunk in (1, 3, 5, 12, 100):
        chunked = outcome(SimCLRLoss(head=HEAD, chunk_size=chunk), _views(), IDENTITY)
        torch.testing.assert_close(chunked, whole, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("temperature", [1e-4, 1e-2])
def test_a_small_temperature_is_exact(temperature: float) -> None:
    """The exponents differ by thousands: the plain equation in float64 against ours in float32."""
    views = _views()
    u = torch.nn.functional.normalize(torch.cat(views), dim=1)
    s = (u @ u.T / temperature).fill_diagonal_(-torch.inf)
    want = (torch.logsumexp(s, 1) - s[range(12), [*range(6, 12), *range(6)]]).mean()
    got = outcome(simclr(temperature=temperature), [view.float() for view in views], IDENTITY.float())
    torch.testing.assert_close(got.loss.double(), want, rtol=1e-5, atol=0)
    assert all(grad.isfinite().all() for grad in got.views)


def _weighted(views: Sequence[Tensor], chunk_size: int) -> list[Tensor]:
    """Gradients when rank r's loss counts r + 1 times."""
    own = [view.chunk(2)[distributed.rank()].clone().requires_grad_() for view in views]
    loss = SimCLRLoss(head=HEAD, chunk_size=chunk_size).step(MatrixModel(IDENTITY), batch_of(own), at(0)).loss
    return list(torch.autograd.grad(loss * (distributed.rank() + 1), own))


def test_the_upstream_gradient_may_differ_from_rank_to_rank() -> None:
    leaves = [view.requires_grad_() for view in _views()]
    u = torch.nn.functional.normalize(torch.cat(leaves), dim=1)
    s = u @ u.T / 0.1
    s = s.masked_fill(torch.eye(12, dtype=torch.bool), -torch.inf)
    rows = torch.logsumexp(s, 1) - s[range(12), [*range(6, 12), *range(6)]]
    weights = torch.tensor([1.0, 1, 1, 2, 2, 2] * 2, dtype=torch.float64)  # images 0 to 2 are rank 0's
    want = torch.autograd.grad((rows * weights).sum() / 6, leaves)
    results = run_on_ranks(_weighted, 2, [leaf.detach() for leaf in leaves], 4)
    for number, grad in enumerate(want):
        got = torch.cat([result[number] for result in results])
        torch.testing.assert_close(got, grad, rtol=1e-10, atol=1e-10)


def test_the_whole_matrix_never_exists() -> None:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as memory:
        outcome(SimCLRLoss(head=HEAD, chunk_size=2), _views(images=256), IDENTITY)
    largest = max(event.cpu_memory_usage for event in memory.events())
    assert 2 * 512 * 8 <= largest < 512 * 512 * 8 / 4


def test_z_std_tells_spread_from_collapsed() -> None:
    spread, same = _views(images=500), [torch.ones(500, 8, dtype=torch.float64)] * 2
    logs = [simclr().step(MatrixModel(IDENTITY), batch_of(views), at(0)).logs for views in (spread, same)]
    assert 0.95 < float(logs[0]["z_std"]) < 1.05
    assert float(logs[1]["z_std"]) < 1e-6


def test_the_chunk_size_is_inferred_and_the_users_is_kept() -> None:
    (inference,) = SimCLRLoss.infer(SimCLRLossConf(), _facts(batch_size=1024, world_size=8))
    assert (inference.field, inference.value) == ("chunk_size", 256)  # 256 x 16,384 x 4 bytes = 16 MiB
    assert inference.default, "another value of the user's stands"
    assert "16384" in inference.rule
    assert [i.value for i in SimCLRLoss.infer(SimCLRLossConf(), _facts(256, 8))] == [512]
    assert [i.value for i in SimCLRLoss.infer(SimCLRLossConf(), _facts(4, 1))] == [8]
    assert [i.value for i in SimCLRLoss.infer(SimCLRLossConf(), _facts(2**22, 8))] == [1]


def test_problems_are_found_before_the_run() -> None:
    assert not list(SimCLRLoss.problems(SimCLRLossConf(), _facts()))
    (problem,) = SimCLRLoss.problems(SimCLRLossConf(), _facts(num_views=3))
    assert "exactly 2 views of every image; the data makes 3" in str(problem)
    assert "at least 2 images" in str(*SimCLRLoss.problems(SimCLRLossConf(), _facts(batch_size=1, world_size=1)))


class TwoOutputs(MatrixModel):
    def forward(
        self,
        views: Sequence[Tensor],
        *,
        masks: Sequence[Optional[Tensor]] = (),
        heads: Optional[Sequence[str]] = None,
        features: Mapping[str, str] = NOTHING,
    ) -> Outputs:
        return Outputs({HEAD: super().forward(views).all_of(HEAD) * 2}, {})


def test_wrong_batches_and_models_are_named() -> None:
    with pytest.raises(ValueError, match="exactly 2 views of every image; the batch has 3"):
        simclr().step(MatrixModel(IDENTITY), batch_of(_views(count=3)), at(0))
    with pytest.raises(ValueError, match="the head 'head' has 2 outputs, where exactly one is read"):
        simclr().step(TwoOutputs(IDENTITY), batch_of(_views()), at(0))


def test_the_config_builds_it_when_it_is_resolved() -> None:
    loss = build(SimCLRLossConf(head=HEAD, temperature=0.2, chunk_size=7))
    assert (loss.temperature, loss.chunk_size) == (0.2, 7)
    with pytest.raises(ConfigError, match="chunk_size: is left to inference: resolve the recipe first, or give it"):
        build(SimCLRLossConf(temperature=0.2))
    with pytest.raises(ValueError, match="SimCLRLoss cannot be built without chunk_size and head: give a value, or"):
        SimCLRLoss()


VIEWS = [waves(6, 8) + 0.3 * v for v in range(4)]


@pytest.mark.parametrize("chunk_size", [1, 5, 24, 100])
def test_chunks_of_multi_crop_change_nothing(chunk_size: int) -> None:
    want = outcome(MultiCropSimCLRLoss(head=HEAD), VIEWS, torch.eye(8, dtype=torch.float64))
    got = outcome(MultiCropSimCLRLoss(head=HEAD, chunk_size=chunk_size), VIEWS, torch.eye(8, dtype=torch.float64))
    torch.testing.assert_close(got.loss, want.loss, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got.weight, want.weight, rtol=1e-12, atol=1e-12)


def test_other_crops_of_the_image_are_no_negatives() -> None:
    image = torch.eye(8, dtype=torch.float64)[:2]
    loss = outcome(MultiCropSimCLRLoss(head=HEAD, temperature=0.5), [image] * 3, torch.eye(8, dtype=torch.float64)).loss
    # positives have similarity 1; the 3 crops of the other image 0
    want = torch.log1p(3 * torch.exp(torch.tensor(-2.0, dtype=torch.float64)))
    torch.testing.assert_close(loss, want)


def test_mistakes_of_multi_crop_are_named() -> None:
    assert "at least 2 views of every image; the data makes 1" in problems(MultiCropSimCLRLoss(head=HEAD), num_views=1)
    assert "at least 2 images" in problems(MultiCropSimCLRLoss(head=HEAD), batch_size=1)
    with pytest.raises(ValueError, match="the batch has 1"):
        MultiCropSimCLRLoss(head=HEAD).step(MatrixModel(torch.eye(8)), batch_of(VIEWS[:1]), at(0))
