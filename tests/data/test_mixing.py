"""Mixed images: pixels are conserved, labels are the shares of the pixels."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from facts import FACTS
from tiny import tiny
from torch import Tensor

from ssltyped import config
from ssltyped.config import ConfigError
from ssltyped.config.resolve import problems_of
from ssltyped.data.mixing import Draw, Mix, MixConf, PairMixUp, PairMixUpConf
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.launch import launch
from ssltyped.losses.supervised import CrossEntropyLossConf
from ssltyped.resolution import resolve_experiment
from ssltyped.types import Batch, Facts

IMAGES, CLASSES = 6, 5
LABEL = torch.tensor([0, 3, 2, 2, 1, 4])


def batch(*sizes: tuple[int, int], images: int = IMAGES, labelled: bool = True) -> Batch:
    """Image b of every view is b + 1 in every pixel of channel 0 and noise in channel 1."""
    generator = torch.Generator().manual_seed(1)
    views = []
    for height, width in sizes or ((12, 10),):
        number = torch.arange(1.0, images + 1).reshape(-1, 1, 1, 1).expand(images, 1, height, width)
        views.append(torch.cat([number, torch.rand(images, 1, height, width, generator=generator)], dim=1))
    label = LABEL.repeat(2)[:images] if labelled else None
    return Batch(views=tuple(views), index=torch.arange(images) * 7, label=label)


def random(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def own_share(before: Tensor, after: Tensor) -> Tensor:
    """The weight of the own pixel everywhere, from channel 0: (x - other) / (own - other)."""
    own, other = before[:, 0], before.flip(0)[:, 0]
    return (after[:, 0] - other) / (own - other)


MIXES = {
    "mixup": Mix(num_classes=CLASSES, smoothing=0.0),
    "cutmix": Mix(mixup_alpha=0.0, cutmix_alpha=1.0, num_classes=CLASSES, smoothing=0.0),
    "either": Mix(cutmix_alpha=1.0, num_classes=CLASSES, smoothing=0.0),
}


@pytest.mark.parametrize("draw", Draw)
@pytest.mark.parametrize("name", MIXES)
def test_pixels_and_labels(name: str, draw: Draw) -> None:
    """Every pixel is a mean of the two images with the same share in all channels; the label has the mean share."""
    for seed in range(12):
        mix = MIXES[name]
        mix = Mix(
            mixup_alpha=mix.mixup_alpha, cutmix_alpha=mix.cutmix_alpha, num_classes=CLASSES, smoothing=0.0, draw=draw
        )
        before = batch()
        after = mix(before, random(seed))
        x, y = before.views[0], after.views[0]
        share = own_share(x, y)
        torch.testing.assert_close(y, share[:, None] * x + (1 - share[:, None]) * x.flip(0), rtol=1e-4, atol=1e-5)
        assert float(share.min()) > -1e-4
        assert float(share.max()) < 1 + 1e-4
        mean = share.mean((1, 2))[:, None]
        assert after.label is not None
        one_hot = torch.nn.functional.one_hot(LABEL, CLASSES).float()
        torch.testing.assert_close(after.label, mean * one_hot + (1 - mean) * one_hot.flip(0), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(after.label.sum(1), torch.ones(IMAGES))
        assert torch.equal(after.index, before.index)


def test_mixing_conserves_the_pixels_of_a_pair() -> None:
    """With the share of a pair (or of the batch), what one image loses the other gets."""
    for draw in (Draw.PAIR, Draw.BATCH):
        for seed in range(8):
            mix = Mix(cutmix_alpha=1.0, num_classes=CLASSES, draw=draw)
            before, after = batch().views[0], mix(batch(), random(seed)).views[0]
            torch.testing.assert_close(after + after.flip(0), before + before.flip(0))


@pytest.mark.parametrize("name", MIXES)
def test_pairs_are_symmetric_and_elements_are_not(name: str) -> None:
    shares = {}
    for draw in Draw:
        alphas = MIXES[name].mixup_alpha, MIXES[name].cutmix_alpha
        mix = Mix(mixup_alpha=alphas[0], cutmix_alpha=alphas[1], num_classes=CLASSES, draw=draw)
        shares[draw] = own_share(batch().views[0], mix(batch(), random(3)).views[0])
    torch.testing.assert_close(shares[Draw.PAIR], shares[Draw.PAIR].flip(0))
    assert not torch.allclose(shares[Draw.ELEMENT], shares[Draw.ELEMENT].flip(0), atol=1e-2)
    torch.testing.assert_close(shares[Draw.BATCH], shares[Draw.BATCH][:1].expand(IMAGES, -1, -1))
    assert not torch.allclose(shares[Draw.PAIR][0], shares[Draw.PAIR][1], atol=1e-2)


def test_a_rectangle_is_cut() -> None:
    """One rectangle of the other image, of a (1 - lam) part but for the border; sides as the image's."""
    areas, wanted = [], []
    for seed in range(60):
        mix = Mix(mixup_alpha=0.0, cutmix_alpha=1.0, num_classes=CLASSES)
        share = own_share(batch((40, 20)).views[0], mix(batch((40, 20)), random(seed)).views[0])[0]
        cut = share < 0.5
        assert set(share.round().flatten().tolist()) <= {0.0, 1.0}
        if cut.any():
            rows, columns = cut.any(1).nonzero().flatten(), cut.any(0).nonzero().flatten()
            assert cut[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        stream = random(seed)
        stream.random(1)
        stream.random(1)
        wanted.append(1 - float(stream.beta(1.0, 1.0)))
        areas.append(float(cut.float().mean()))
    assert all(area <= want + 1e-6 for area, want in zip(areas, wanted, strict=True))
    inside = [area / want for area, want in zip(areas, wanted, strict=True) if area > 0.05]
    assert max(inside) > 0.9, "one that the border does not cut"


def test_shares_are_drawn_from_beta() -> None:
    """Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1))."""
    for alpha in (0.2, 1.0, 4.0):
        mix = Mix(mixup_alpha=alpha, draw=Draw.ELEMENT)
        shares, cuts, _ = mix._drawn(40_000, random(0))
        assert not cuts.any()
        assert shares.mean() == pytest.approx(0.5, abs=0.01)
        assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)


def test_how_often() -> None:
    shares, cuts, _ = Mix(cutmix_alpha=1.0, prob=0.3, switch_prob=0.8, draw=Draw.ELEMENT)._drawn(40_000, random(0))
    assert np.mean(shares < 1) == pytest.approx(0.3, abs=0.01)
    assert np.mean(cuts) == pytest.approx(0.8, abs=0.01)
    nothing = Mix(prob=0.0, num_classes=CLASSES, smoothing=0.0)(batch(), random(0))
    assert torch.equal(nothing.views[0], batch().views[0])
    assert nothing.label is not None
    assert nothing.label.argmax(1).tolist() == LABEL.tolist()


def test_every_view_is_mixed_alike() -> None:
    """The same share and partner, and the rectangle at the same relative place."""
    before = batch((8, 8), (16, 16))
    mixup = Mix(num_classes=CLASSES, draw=Draw.ELEMENT)(before, random(2))
    small, large = (own_share(x, y) for x, y in zip(before.views, mixup.views, strict=True))
    torch.testing.assert_close(small[:, 0, 0], large[:, 0, 0])
    cut = Mix(mixup_alpha=0.0, cutmix_alpha=1.0, num_classes=CLASSES)(before, random(5))
    small, large = (own_share(x, y) for x, y in zip(before.views, cut.views, strict=True))
    halved = torch.nn.functional.avg_pool2d(large, 2)
    assert float((halved - small).abs().mean()) < 0.2
    assert 0.1 < float(small.mean()) < 0.95, "something is cut"


def test_smoothing_without_labels_and_other_labels() -> None:
    smoothed = Mix(prob=0.0, num_classes=CLASSES, smoothing=0.2)(batch(), random(0)).label
    assert smoothed is not None
    assert smoothed[0].tolist() == pytest.approx([0.84, 0.04, 0.04, 0.04, 0.04])
    unlabelled = Mix()(batch(labelled=False), random(0))
    assert unlabelled.label is None
    assert Mix()(batch(), random(0)).label is None, "the method does not read it"
    rows = dataclasses.replace(batch(), label=torch.zeros(IMAGES, 3))
    with pytest.raises(ValueError, match="rows"):
        Mix(num_classes=CLASSES)(rows, random(0))


def test_the_same_draw_gives_the_same_batch() -> None:
    mix = Mix(cutmix_alpha=1.0, num_classes=CLASSES, draw=Draw.ELEMENT)
    one, two, other = (mix(batch(), random(seed)).views[0] for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def facts(output_dims: tuple[int, ...], labelled: bool = True, batch_size: int = 16) -> Facts:
    heads = {f"head{number}": (dim,) for number, dim in enumerate(output_dims)}
    return dataclasses.replace(FACTS, output_dims=heads, train_labelled=labelled, batch_size=batch_size)


def test_classes_are_the_width_of_the_outputs() -> None:
    (inferred,) = Mix.infer(MixConf(), facts((10, 10)))
    assert (inferred.field, inferred.value) == ("num_classes", 10)
    assert not list(Mix.infer(MixConf(), facts((10, 12))))
    assert not list(Mix.infer(MixConf(), facts((10,), labelled=False)))
    assert inferred.default, "another number of the user's stands"


def test_what_is_wrong() -> None:
    problems = problems_of(MixConf(mixup_alpha=0.0, draw=Draw.PAIR), facts((10,), batch_size=7))
    assert [problem.path for problem in problems] == ["mixup_alpha", "draw"]
    assert str(problems[1]) == "draw: pairs need an even batch a rank; it is 7"
    assert [str(p) for p in problems_of(PairMixUpConf(), facts((), batch_size=7))] == [
        "pairs need an even batch a rank; it is 7"
    ]
    assert not problems_of(MixConf(), facts((10,), batch_size=7))
    for alphas in ((1.0, 0.0), (0.0, 1.0)):
        one = MixConf(switch_prob=0.3, mixup_alpha=alphas[0], cutmix_alpha=alphas[1])
        assert [problem.path for problem in problems_of(one, facts((10,)))] == ["switch_prob"]
    assert not problems_of(MixConf(switch_prob=0.3, cutmix_alpha=1.0), facts((10,)))


# --- pairs that become one ------------------------------------------------------------------------------------


def test_pairs_of_neighbours_become_one_image() -> None:
    mask = torch.rand(IMAGES, 3, 3) > 0.5
    before = dataclasses.replace(batch((4, 4), (6, 6)), masks=(mask, None))
    after = PairMixUp().merge(before, 0.3)
    for x, y in zip(before.views, after.views, strict=True):
        for pair in range(3):
            torch.testing.assert_close(y[pair], 0.3 * x[2 * pair] + 0.7 * x[2 * pair + 1])
    assert after.index.tolist() == [0, 14, 28]
    assert after.label is not None
    assert after.label.tolist() == [0, 2, 1]
    assert after.masks[0] is not None
    assert torch.equal(after.masks[0], mask[::2])
    assert after.masks[1] is None
    assert PairMixUp().merge(batch(labelled=False), 0.3).label is None


def test_one_share_a_batch_from_beta() -> None:
    shares = []
    for seed in range(400):
        x, y = batch().views[0], PairMixUp(alpha=0.4)(batch(), random(seed)).views[0]
        share = (y[:, 0] - x[1::2, 0]) / (x[::2, 0] - x[1::2, 0])
        torch.testing.assert_close(share, share[:1, :1, :1].expand_as(share), rtol=1e-4, atol=1e-5)
        shares.append(float(share[0, 0, 0]))
    assert np.mean(shares) == pytest.approx(0.5, abs=0.06)
    assert np.var(shares) == pytest.approx(1 / (4 * 1.8), rel=0.15)


def test_an_odd_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="it has 5 images"):
        PairMixUp()(batch(images=5), random(0))


def test_a_method_without_labels_has_its_images_mixed(tmp_path: Path) -> None:
    asked = config.replaced(tiny(output=tmp_path, steps=2), {"data.train.collators": [MixConf()]})
    assert launch(asked).metrics["loss"] > 0


def test_outputs_that_are_no_classes() -> None:
    asked = config.replaced(
        tiny(loss=CrossEntropyLossConf()),
        {"data.train.collators": [MixConf()], "heads": {"a": MLPHeadConf(dims=[4]), "b": MLPHeadConf(dims=[3])}},
    )
    with pytest.raises(ConfigError, match=r"collators.0.num_classes: the outputs are \[3, 4\] wide"):
        resolve_experiment(asked)
