"""torchvision's transforms: randomness from the generator only, their results, and what is refused."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from facts import FACTS
from torchvision.transforms import v2

from ssltyped.config import ConfigError, build
from ssltyped.transforms.opencv import to_image
from ssltyped.transforms.torchvision_transforms import (
    AutoAugment,
    AutoAugmentPolicy,
    RandAugment,
    TorchvisionTransform,
    TorchvisionTransformConf,
    applied,
)
from ssltyped.types import Transform

IMAGE = to_image(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))

RANDOM: list[Transform] = [
    RandAugment(),
    RandAugment(magnitude_std=3.0),
    AutoAugment(policy=AutoAugmentPolicy.SVHN),
    TorchvisionTransform(name="RandomErasing", args={"p": 1.0}),
    TorchvisionTransform(name="TrivialAugmentWide"),
    TorchvisionTransform(name="RandomRotation", args={"degrees": 45, "interpolation": "bilinear"}),
]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("transform", RANDOM, ids=lambda t: getattr(t, "name", type(t).__name__))
def test_randomness_is_the_generator_s_and_torch_s_stays(transform: Transform) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = [transform(IMAGE, rng(seed)) for seed in range(12)]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert all(torch.equal(image, transform(IMAGE, rng(seed))) for seed, image in enumerate(first))
    assert len({tuple(image.flatten().tolist()) for image in first}) > 6
    for image in first:
        assert (image.dtype, image.shape) == (torch.uint8, IMAGE.shape)
        assert image.permute(1, 2, 0).is_contiguous()


def test_two_draws_of_one_generator_differ() -> None:
    draw = rng()
    erase = TorchvisionTransform(name="RandomErasing", args={"p": 1.0})
    assert not torch.equal(erase(IMAGE, draw), erase(IMAGE, draw))


@pytest.mark.parametrize("magnitude, num_ops", [(9, 2), (0, 1), (30, 4)])
def test_rand_augment_is_torchvision_s(magnitude: int, num_ops: int) -> None:
    theirs = v2.RandAugment(num_ops=num_ops, magnitude=magnitude, fill=128)
    for seed in range(5):
        draw = rng(seed)  # the number of operations and their strengths come before what torch draws
        draw.binomial(num_ops, 1.0)
        draw.standard_normal(num_ops)
        want = applied(theirs, IMAGE, draw)
        assert isinstance(want, torch.Tensor)
        assert torch.equal(RandAugment(num_ops=num_ops, magnitude=magnitude)(IMAGE, rng(seed)), want)


def test_rand_augment_s_operations_have_their_probability_and_strengths(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    augment = RandAugment(num_ops=3, magnitude=27, magnitude_std=1.5, p=0.5)
    assert set(augment._by_strength) == set(range(31))

    def noting(strength: int) -> Callable[[torch.Tensor], torch.Tensor]:
        def operation(image: torch.Tensor) -> torch.Tensor:
            seen.append(strength)
            return image

        return operation

    monkeypatch.setattr(augment, "_by_strength", {strength: noting(strength) for strength in range(31)})
    draw = rng(1)
    for _ in range(600):
        augment(IMAGE, draw)
    assert abs(len(seen) / 1800 - 0.5) < 0.05
    assert max(seen) == 30
    assert abs(float(np.median(seen)) - 27) <= 1
    assert abs(float(np.std(seen)) - 1.5) < 0.25


@pytest.mark.parametrize("policy", list(AutoAugmentPolicy))
def test_auto_augment_is_torchvision_s(policy: AutoAugmentPolicy) -> None:
    theirs = v2.AutoAugment(policy=v2.AutoAugmentPolicy(policy.value), fill=3)
    for seed in range(5):
        want = applied(theirs, IMAGE, rng(seed))
        assert isinstance(want, torch.Tensor)
        assert torch.equal(AutoAugment(policy=policy, fill=3)(IMAGE, rng(seed)), want)


def test_fill_is_what_is_left_empty() -> None:
    """White images that are turned, shifted and sheared have the fill somewhere."""
    white = torch.full((3, 30, 30), 255, dtype=torch.uint8)
    augment = RandAugment(magnitude=20, fill=77)
    assert any((augment(white, rng(seed)) == 77).any() for seed in range(40))


def test_problems_of_channels() -> None:
    six = dataclasses.replace(FACTS, num_channels=6)
    rand, auto = RandAugment(), AutoAugment()
    assert [len(list(RandAugment.problems(rand, six))), len(list(AutoAugment.problems(auto, six)))] == [1, 1]
    assert not [*RandAugment.problems(rand, FACTS), *AutoAugment.problems(auto, FACTS)]


@pytest.mark.parametrize(
    "config, path, text",
    [
        (TorchvisionTransformConf(name="RandomEraser"), "name", "did you mean 'RandomErasing'"),
        (
            TorchvisionTransformConf(name="RandomErasing", args={"scal": [0.1, 1]}),
            "args.scal",
            "did you mean 'scale'",
        ),
        (TorchvisionTransformConf(name="RandomErasing", args={"p": 3.0}), "args", "RandomErasing refuses"),
        (TorchvisionTransformConf(name="RandomRotation"), "args", "missing"),
        (TorchvisionTransformConf(name="RandomRotation", args={"degrees": 3, "interpolation": "x"}), "args", "'x'"),
        (TorchvisionTransformConf(name="ToDtype", args={"dtype": "float"}), "args", "ToDtype refuses"),
        (TorchvisionTransformConf(name="Normalize", args={"mean": [0.5], "std": [0.5]}), "", "cannot be applied"),
        (
            TorchvisionTransformConf(name="MixUp", args={"num_classes": 3}),
            "",
            "MixUp cannot be applied to an image",
        ),
        (TorchvisionTransformConf(name="ToPILImage"), "name", "gives Image"),
        (TorchvisionTransformConf(name="FiveCrop", args={"size": 8}), "name", "gives tuple"),
        (TorchvisionTransformConf(name="CenterCrop", args={"size": 8}, size=9), "size", "CenterCrop gives [8, 8]"),
    ],
)
def test_problems(config: TorchvisionTransform, path: str, text: str) -> None:
    (problem,) = TorchvisionTransform.problems(config, FACTS)
    assert problem.path == path
    assert text in problem.message


def test_what_works_has_no_problem_and_is_built() -> None:
    config = TorchvisionTransformConf(name="RandomCrop", args={"size": [16, 16], "padding": 2}, size=16)
    assert not list(TorchvisionTransform.problems(config, FACTS))
    assert build(config)(IMAGE, rng()).shape == (3, 16, 16)


def test_wrong_names_are_refused_when_built() -> None:
    with pytest.raises(ConfigError, match="did you mean 'RandomErasing'"):
        build(TorchvisionTransformConf(name="RandomEraser"))
