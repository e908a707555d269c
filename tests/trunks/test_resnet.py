"""ResNet: recorded listings and forward passes, what each option does, and what is refused."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from facts import FACTS
from golden_cases import FOLDER, load_cases, load_tensors
from torch import Tensor, nn
from torch.nn import functional as F
from trunk_contract import check_checkpointing, check_colors, check_features

from ssltyped.trunks.base import Input, InputColor
from ssltyped.trunks.resnet import (
    BasicBlock,
    Bottleneck,
    Norm,
    ResNet,
    ResNetConf,
    ResNetSK,
    ResNetSKConf,
    SelectiveKernel,
    StandardizedConv2d,
    Stem,
    shortcut,
)
from tools.golden.fill import fill

FEATURES = ["conv1", "res1", "res2", "res3", "res4", "res5", "res5avg", "flatten"]
RECORDED: dict[str, Callable[[], ResNet]] = {
    "resnet18_w1": partial(ResNet, depth=18),
    "resnet50_w1": ResNet,
    "resnet101_w1": partial(ResNet, depth=101),
    "resnet50_w2": partial(ResNet, width_multiplier=2.0),
    "resnet50_w1_GROUPS32_WIDTH_PER_GROUP4": partial(ResNet, groups=32, width_per_group=4),
    "resnet101_w1_GROUPS32_WIDTH_PER_GROUP8": partial(ResNet, depth=101, groups=32, width_per_group=8),
    "resnet50_w1_NORMGroupNorm": partial(ResNet, norm=Norm.GROUP),
    "resnet50_w1_INPUT_TYPElab": partial(ResNet, input=Input(color=InputColor.LAB)),
    "resnet50_w1_LAYER4_STRIDE1": partial(ResNet, layer4_stride=1),
    # The option had no effect where this was recorded.
    "resnet50_w1_STANDARDIZE_CONVOLUTIONSTrue": ResNet,
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass
class Listing:
    variant: str
    image_size: int
    num_params: int
    shapes: dict[str, list[int]]


@dataclass
class Forward:
    id: str
    repeat: int
    features: list[str]


def recorded_listing(variant: str) -> dict[str, str]:
    with np.load(FOLDER / "trunks_listing.npz") as arrays:
        return dict(zip(arrays[f"{variant}/keys"].tolist(), arrays[f"{variant}/shapes"].tolist(), strict=True))


def images(size: int = 32) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("case", load_cases("trunks_listing", Listing), ids=lambda case: case.variant)
def test_parameters_and_shapes_are_those_recorded(case: Listing) -> None:
    with torch.device("meta"):
        trunk = RECORDED[case.variant]().eval()
        batch = torch.empty(1, 3, case.image_size, case.image_size)
    ours = {key: " ".join(map(str, value.shape)) for key, value in trunk.state_dict().items()}
    assert list(ours.items()) == list(recorded_listing(case.variant).items())
    assert sum(parameter.numel() for parameter in trunk.parameters()) == case.num_params
    features = trunk(batch, FEATURES)
    assert {name: list(x.shape) for name, x in zip(FEATURES, features, strict=True)} == case.shapes
    assert dict(trunk.feature_dims) == {name: shape[1] for name, shape in case.shapes.items()}


@pytest.mark.parametrize("case", load_cases("trunks", Forward), ids=lambda case: case.id)
def test_forward_is_that_recorded(case: Forward) -> None:
    with torch.device("meta"):
        trunk = RECORDED[case.id.removeprefix("trunks.").removesuffix(".0")]().eval()
    trunk.to_empty(device="cpu")
    trunk.load_state_dict(fill(trunk.state_dict()))
    golden = load_tensors("trunks")
    batch = golden[f"{case.id}/in/x"].repeat_interleave(case.repeat, 2).repeat_interleave(case.repeat, 3)
    with torch.no_grad():
        features = trunk(batch, case.features)
    for name, x in zip(case.features, features, strict=True):
        want = {key: golden[f"{case.id}/out/{name}/{key}"] for key in ("mean", "abs_mean", "std", "samples")}
        got = {"mean": x.mean(), "abs_mean": x.abs().mean(), "std": x.std()}
        got["samples"] = x.flatten()[golden[f"{case.id}/out/{name}/sample_index"]]
        for key, value in got.items():
            torch.testing.assert_close(value.double(), want[key].double(), rtol=1e-3, atol=1e-4)


def test_features_come_in_the_requested_order_and_may_repeat() -> None:
    trunk = ResNet(depth=18, width_multiplier=0.125).eval()
    flat, conv1, again = trunk(images(), ["flatten", "conv1", "flatten"])
    (alone,) = trunk(images(), ["conv1"])
    assert flat.shape == (2, 64)
    assert torch.equal(flat, again)
    assert torch.equal(conv1, alone)
    assert (conv1 >= 0).all()


def test_nothing_is_computed_past_the_last_requested_feature() -> None:
    trunk = ResNet(depth=18, width_multiplier=0.125)
    called: list[str] = []
    for name in ["conv1", "bn1", "maxpool", *(f"layer{stage}.{i}" for stage in (1, 2, 3, 4) for i in (0, 1))]:
        trunk.get_submodule(name).register_forward_hook(lambda *_, name=name: called.append(name))
    trunk(images(), ["res3", "res1"])
    assert called == ["conv1", "bn1", "maxpool", "layer1.0", "layer1.1", "layer2.0", "layer2.1"]


def test_unknown_feature_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown feature 'res5_avg': did you mean 'res5avg'"):
        ResNet(depth=18, width_multiplier=0.125)(images(), ["conv1", "res5_avg"])


@pytest.mark.parametrize("depth, parameters", [(34, 21_284_672), (152, 58_143_808), (200, 58_143_808 + 16 * 280_064)])
def test_other_depths(depth: int, parameters: int) -> None:
    """As torchvision without classifier; 200 has 16 blocks of 512-128-128-512 more than 152."""
    with torch.device("meta"):
        trunk = ResNet(depth=34 if depth == 34 else 152 if depth == 152 else 200)
    assert sum(parameter.numel() for parameter in trunk.parameters()) == parameters


def test_small_stem_keeps_the_resolution() -> None:
    trunk = ResNet(depth=18, width_multiplier=0.125, stem=Stem.SMALL)
    sizes = [x.shape[-1] for x in trunk(images(), FEATURES[:6])]
    assert sizes == [32, 32, 32, 16, 8, 4]
    assert trunk.conv1.kernel_size == (3, 3)


def test_convolutions_start_from_he_normal_over_fan_out() -> None:
    torch.manual_seed(0)
    trunk = ResNet(depth=18)
    for conv in [module for module in trunk.modules() if isinstance(module, nn.Conv2d)]:
        fan_out = conv.out_channels * conv.kernel_size[0] * conv.kernel_size[1]
        assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
        assert conv.weight.abs().max() > 3 * (2 / fan_out) ** 0.5  # a uniform one would end at 1.7 std


@pytest.mark.parametrize("depth", [18, 50])
def test_zero_init_residual_makes_every_block_its_shortcut(depth: int) -> None:
    trunk = ResNet(depth=18 if depth == 18 else 50, width_multiplier=0.125, zero_init_residual=True).eval()
    res1, res2 = trunk(images(), ["res1", "res2"])
    first = trunk.layer1[0]
    assert isinstance(first, BasicBlock | Bottleneck)
    torch.testing.assert_close(res2, F.relu(first.downsample(res1)))
    plain_1, plain_2 = ResNet(depth=18, width_multiplier=0.125).eval()(images(), ["res1", "res2"])
    assert not torch.allclose(plain_1, plain_2)


def test_standardized_convolution_in_plain_steps() -> None:
    conv = StandardizedConv2d(4, 6, 3, stride=2, groups=2)
    x = torch.randn(2, 4, 9, 9)
    rows = conv.weight.flatten(1)
    weight = (rows - rows.mean(1, keepdim=True)) / (rows.std(1, keepdim=True, correction=1) + 1e-5)
    want = F.conv2d(x, weight.view_as(conv.weight), stride=2, padding=1, groups=2)
    torch.testing.assert_close(conv(x), want)
    trunk = ResNet(depth=18, width_multiplier=0.125, standardize_convolutions=True)
    kinds = {type(module) for module in trunk.modules() if isinstance(module, nn.Conv2d)}
    assert kinds == {StandardizedConv2d}


@pytest.mark.parametrize("norm, groups", [(Norm.LAYER, 1), (Norm.GROUP, 4)])
def test_norms_without_batch_statistics(norm: Norm, groups: int) -> None:
    trunk = ResNet(depth=18, width_multiplier=0.125, norm=norm, groupnorm_groups=4 if norm is Norm.GROUP else 32)
    norms = [module for module in trunk.modules() if isinstance(module, nn.GroupNorm)]
    assert len(norms) == 20
    assert {(module.num_groups, module.eps) for module in norms} == {(groups, 1e-5)}
    (both,), (one,) = trunk(images(), ["flatten"]), trunk(images()[:1], ["flatten"])
    torch.testing.assert_close(both[:1], one)


@pytest.mark.parametrize("depth", [18, 50])
def test_gradients_reach_every_parameter(depth: int) -> None:
    trunk = ResNet(depth=18 if depth == 18 else 50, width_multiplier=0.125)
    trunk(images(), ["flatten"])[0].square().sum().backward()
    for name, parameter in trunk.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    "config, path, text",
    [
        (ResNetConf(depth=18, groups=32), "groups", "basic blocks of depth 18"),
        (ResNetConf(groupnorm_groups=16), "groupnorm_groups", "16 has no effect"),
        (ResNetConf(norm=Norm.GROUP, width_multiplier=0.125), "groupnorm_groups", "32 does not divide the 8 channels"),
        (ResNetConf(width_multiplier=0.01), "width_multiplier", "0.01 leaves a convolution without channels"),
        (ResNetConf(width_multiplier=0.125, groups=32, width_per_group=4), "width_multiplier", "without channels"),
    ],
)
def test_what_cannot_work_is_a_problem_of_the_config_and_refused_when_built(
    config: ResNet, path: str, text: str
) -> None:
    """`problems` is called with a config in the place of self."""
    problems = list(ResNet.problems(config, FACTS))
    assert [problem.path for problem in problems] == [path]
    assert text in problems[0].message
    options = {key: getattr(config, key) for key in ("depth", "width_multiplier", "norm", "groups", "width_per_group")}
    with pytest.raises(ValueError, match=text):
        ResNet(groupnorm_groups=config.groupnorm_groups, **options)


def test_building_on_meta_loads_nothing_that_a_plan_does_not_need() -> None:
    """Drawing random numbers on meta would load torch._dynamo, which costs more than a second."""
    program = """
import sys, torch
from ssltyped.trunks.resnet import ResNet
with torch.device("meta"):
    trunk = ResNet(depth=50, width_multiplier=2.0, zero_init_residual=True)
assert all(parameter.is_meta for parameter in trunk.parameters())
sys.exit(", ".join(sorted({"torch._dynamo", "torchvision", "torchmetrics", "sklearn"} & set(sys.modules))) or 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


selective = partial(ResNetSK, depth=50, width_multiplier=0.125)


def test_features_with_selective_kernels() -> None:
    features = check_features(selective(), 64)
    assert [x.shape[-1] for x in features.values()] == [32, 16, 16, 8, 4, 2, 1, 256]
    assert torch.equal(features["flatten"], features["res5avg"].flatten(1))
    torch.testing.assert_close(features["res5avg"], features["res5"].mean((2, 3), keepdim=True))


@pytest.mark.parametrize("stride", [1, 2])
def test_selective_kernel_in_plain_steps(stride: int) -> None:
    torch.manual_seed(0)
    kernel = SelectiveKernel(8, stride, 0.5)
    assert kernel.squeeze.out_channels == 32  # not fewer
    assert SelectiveKernel(128, stride, 0.5).squeeze.out_channels == 64
    x = torch.randn(4, 8, 6, 6)
    want = kernel(x)
    conv = F.conv2d(x, kernel.conv.weight, stride=stride, padding=1)
    both = F.relu(F.batch_norm(conv, None, None, training=True)).view(4, 2, 8, 6 // stride, 6 // stride)
    mean = both.sum(1).mean((2, 3), keepdim=True)
    squeezed = F.relu(F.batch_norm(F.conv2d(mean, kernel.squeeze.weight), None, None, training=True))
    share = F.conv2d(squeezed, kernel.excite.weight).view(4, 2, 8, 1, 1).softmax(1)
    torch.testing.assert_close((both * share).sum(1), want)


@pytest.mark.parametrize("stride, size", [(1, 5), (2, 5), (2, 6)])
def test_the_shortcut_averages_before_it_projects(stride: int, size: int) -> None:
    layers = shortcut(3, 4, stride).eval()
    x = torch.randn(2, 3, size, size)
    padded = F.pad(x, (0, 1, 0, 1))
    pooled: Tensor = padded.unfold(2, 2, stride).unfold(3, 2, stride).mean((4, 5))
    want = F.conv2d(pooled, layers.get_parameter("2.weight")) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(layers(x), want)
    assert want.shape[2] == -(-size // stride)


@pytest.mark.parametrize("depth, blocks", [(50, 16), (101, 33), (152, 50), (200, 66)])
def test_depths_with_selective_kernels(depth: int, blocks: int) -> None:
    with torch.device("meta"):
        trunk = ResNetSK(depth=next(known for known in (50, 101, 152, 200) if known == depth), width_multiplier=1.0)
    assert sum(len(layer) for layer in (trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4)) == blocks


def test_colours_and_channels() -> None:
    check_colors(lambda color, channels: selective(input=Input(color=color, channels=channels)), 32)


def test_checkpointing() -> None:
    check_checkpointing(lambda splits: selective(input=Input(checkpoint_splits=splits)), 64, ["flatten", "res3"])


def test_what_cannot_work_with_selective_kernels() -> None:
    """`problems` is called with a config in the place of self."""
    problems = ResNetSK.problems(ResNetSKConf(width_multiplier=0.02), FACTS)
    assert [str(problem) for problem in problems] == [
        "width_multiplier: 0.02 makes a stem of 1 channels; it needs an even number"
    ]
    with pytest.raises(ValueError, match="stem of 1 channels"):
        ResNetSK(width_multiplier=0.02)
