"""AlexNets: the layers of each variant, the Sobel filter, and a flatten that flattens."""

from functools import partial

import pytest
import torch
from facts import FACTS
from torch import Tensor, nn
from torch.nn import functional as F
from trunk_contract import check_checkpointing, check_colors, check_features, images

from ssltyped.trunks.alexnet import AlexNet, AlexNetConf, AlexNetVariant, last_size, sobel
from ssltyped.trunks.base import Input, InputColor

OTHERS = [variant for variant in AlexNetVariant if variant is not AlexNetVariant.COLORIZATION]


def small(variant: AlexNetVariant, *, image_size: int = 80) -> AlexNet:
    color = InputColor.LAB if variant is AlexNetVariant.COLORIZATION else InputColor.RGB
    return AlexNet(variant=variant, image_size=image_size, input=Input(color=color))


@pytest.mark.parametrize("variant", AlexNetVariant)
def test_features(variant: AlexNetVariant) -> None:
    features = check_features(small(variant), 80)
    assert torch.equal(features["flatten"], features["pool5"].flatten(1))
    assert min(float(features[f"conv{i}"].min()) for i in range(1, 6)) == 0.0


def conv(trunk: AlexNet, number: int, x: Tensor, *, stride: int = 1, groups: int = 1, norm: bool = False) -> Tensor:
    """A convolution of the trunk, written out; the first is not padded."""
    layers = trunk.get_submodule(f"conv{number}")
    weight, bias = layers.get_parameter("0.weight"), layers.get_parameter("0.bias")
    padding = 0 if number == 1 else weight.shape[-1] // 2
    x = F.conv2d(x, weight, bias, stride, padding, groups=groups)
    if norm:
        mean, var = layers.get_buffer("1.running_mean"), layers.get_buffer("1.running_var")
        x = F.batch_norm(x, mean, var, layers.get_parameter("1.weight"), layers.get_parameter("1.bias"))
    return F.relu(x)


def test_the_reference_network_written_out() -> None:
    """Response normalization, then pooling."""
    trunk = small(AlexNetVariant.BVLC).eval()
    x = F.max_pool2d(F.local_response_norm(conv(trunk, 1, images(80), stride=4), 5, 1e-4, 0.75), 3, 2)
    x = F.max_pool2d(F.local_response_norm(conv(trunk, 2, x, groups=2), 5, 1e-4, 0.75), 3, 2)
    x = conv(trunk, 5, conv(trunk, 4, conv(trunk, 3, x), groups=2), groups=2)
    torch.testing.assert_close(trunk(images(80), ["pool5"])[0], F.max_pool2d(x, 3, 2))


def test_the_jigsaw_network_written_out() -> None:
    """The first stride is 2, pooling comes before response normalization, batch norms after it."""
    trunk = small(AlexNetVariant.JIGSAW).eval()
    x = F.local_response_norm(F.max_pool2d(conv(trunk, 1, images(80), stride=2), 3, 2), 5, 1e-4, 0.75)
    x = F.local_response_norm(F.max_pool2d(conv(trunk, 2, x, groups=2), 3, 2), 5, 1e-4, 0.75)
    x = conv(trunk, 3, x, norm=True)
    x = conv(trunk, 5, conv(trunk, 4, x, groups=2, norm=True), groups=2, norm=True)
    torch.testing.assert_close(trunk(images(80), ["pool5"])[0], F.max_pool2d(x, 3, 2))


def test_rotnet_is_narrower_has_batch_norms_and_no_groups() -> None:
    trunk = small(AlexNetVariant.ROTNET)
    convs = [module for module in trunk.modules() if isinstance(module, nn.Conv2d)]
    assert [module.out_channels for module in convs] == [64, 192, 384, 256, 256]
    assert {module.groups for module in convs} == {1}
    assert len([module for module in trunk.modules() if isinstance(module, nn.BatchNorm2d)]) == 5


def test_sobel_is_the_two_differences_of_the_mean_and_not_trained() -> None:
    ramp = torch.arange(6.0).expand(1, 3, 6, 6)  # grows by 1 a column
    edges = sobel(3)(ramp)[:, :, 1:-1, 1:-1]
    assert torch.allclose(edges[:, 0], torch.tensor(-8.0))
    assert torch.allclose(edges[:, 1], torch.tensor(0.0), atol=1e-5)
    assert torch.allclose(sobel(3)(ramp.mT)[0, 1, 1:-1, 1:-1], torch.tensor(-8.0))
    trunk = small(AlexNetVariant.DEEPCLUSTER)
    assert [name for name, p in trunk.named_parameters() if not p.requires_grad] == [
        f"sobel.{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")
    ]


def test_images_of_another_size_are_refused_by_flatten_only() -> None:
    trunk = small(AlexNetVariant.ROTNET)
    assert trunk.feature_dims["flatten"] == 256 * last_size(AlexNetVariant.ROTNET, 80) ** 2
    assert trunk(images(112), ["pool5"])[0].shape[2:] == (2, 2)
    with pytest.raises(ValueError, match="flatten is made for 80 x 80 images, for which pool5 is 1 x 1; got 2 x 2"):
        trunk(images(112), ["flatten"])


def test_colours_and_channels() -> None:
    check_colors(
        lambda color, channels: AlexNet(
            variant=AlexNetVariant.ROTNET, image_size=80, input=Input(color=color, channels=channels)
        ),
        80,
    )


@pytest.mark.parametrize("variant", OTHERS)
def test_checkpointing(variant: AlexNetVariant) -> None:
    make = partial(AlexNet, variant=variant, image_size=80)
    check_checkpointing(lambda splits: make(input=Input(checkpoint_splits=splits)), 80, ["flatten", "conv2"])


@pytest.mark.parametrize(
    "config, path, text",
    [
        (AlexNetConf(variant=AlexNetVariant.COLORIZATION), "input.color", "sees the L of LAB images: set LAB"),
        (AlexNetConf(variant=AlexNetVariant.BVLC, image_size=32), "image_size", "32 pixels are too few"),
    ],
)
def test_what_cannot_work(config: AlexNet, path: str, text: str) -> None:
    """`problems` is called with a config in the place of self."""
    problems = list(AlexNet.problems(config, FACTS))
    assert [problem.path for problem in problems] == [path]
    assert text in problems[0].message
    with pytest.raises(ValueError, match=text):
        AlexNet(variant=config.variant, image_size=config.image_size)
