"""ConvNeXt: torchvision's network with the same weights, published sizes, features, starting weights."""

import re

import pytest
import torch
from facts import FACTS
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.convnext import ConvNeXt as Reference

from ssltyped.trunks.base import Input, InputColor
from ssltyped.trunks.convnext import Block, ChannelNorm, ConvNeXt, ConvNeXtConf

FEATURES = ["stage1", "stage2", "stage3", "lastPOOL"]


def tiny(drop_path_rate: float = 0.0, splits: int = 0) -> ConvNeXt:
    trunk = ConvNeXt(
        depths=(1, 2, 1), dims=(6, 8, 10), drop_path_rate=drop_path_rate, input=Input(checkpoint_splits=splits)
    )
    torch.manual_seed(0)
    for parameter in trunk.parameters():
        nn.init.normal_(parameter, std=0.3)
    return trunk


def images(size: int = 48) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "depths, dims, parameters",
    [
        ((3, 3, 9, 3), (96, 192, 384, 768), 28_589_128),
        ((3, 3, 27, 3), (96, 192, 384, 768), 50_223_688),
        ((3, 3, 27, 3), (128, 256, 512, 1024), 88_591_464),
    ],
)
def test_published_sizes(depths: tuple[int, ...], dims: tuple[int, ...], parameters: int) -> None:
    """ConvNeXt-T, -S and -B as torchvision states them, without their 1000 classes."""
    with torch.device("meta"):
        trunk = ConvNeXt(depths=depths, dims=dims)
    assert sum(parameter.numel() for parameter in trunk.parameters()) == parameters - 1000 * (dims[-1] + 1)


def test_same_outputs_as_torchvision_with_its_weights() -> None:
    settings = [CNBlockConfig(6, 8, 1), CNBlockConfig(8, 10, 2), CNBlockConfig(10, None, 1)]
    reference = Reference(settings).eval()
    for parameter in reference.parameters():
        nn.init.normal_(parameter, std=0.3)
    reference.classifier[2] = nn.Identity()
    state: dict[str, Tensor] = {}
    for key, value in reference.state_dict().items():
        key = re.sub(r"^features\.(\d+)\.(\d+)\.block\.0\.", lambda m: _block(m, "dwconv."), key)
        key = re.sub(r"^features\.(\d+)\.(\d+)\.block\.2\.", lambda m: _block(m, "norm."), key)
        key = re.sub(r"^features\.(\d+)\.(\d+)\.block\.3\.", lambda m: _block(m, "fc1."), key)
        key = re.sub(r"^features\.(\d+)\.(\d+)\.block\.5\.", lambda m: _block(m, "fc2."), key)
        key = re.sub(r"^features\.(\d+)\.(\d+)\.layer_scale", lambda m: _block(m, "gamma"), key)
        key = re.sub(r"^features\.(\d+)\.", lambda m: f"downsample_layers.{int(m[1]) // 2}.", key)
        state[key.replace("classifier.0.", "norm.")] = value
    trunk = ConvNeXt(depths=(1, 2, 1), dims=(6, 8, 10)).eval()
    trunk.load_state_dict({key: value.view(trunk.state_dict()[key].shape) for key, value in state.items()})
    *stages, pooled = trunk(images(), FEATURES)
    torch.testing.assert_close(pooled, reference(images()))
    x = images()
    for i, stage in enumerate(stages):
        x = reference.features[2 * i + 1](reference.features[2 * i](x))
        torch.testing.assert_close(stage, x)


def _block(match: re.Match[str], name: str) -> str:
    return f"blocks.{int(match[1]) // 2}.{match[2]}.{name}"


def test_features_by_name() -> None:
    trunk = tiny().eval()
    assert trunk.feature_dims == {"stage1": 6, "stage2": 8, "stage3": 10, "lastPOOL": 10}
    pooled, first, third, again = trunk(images(), ["lastPOOL", "stage1", "stage3", "stage1"])
    assert (first.shape, third.shape) == ((2, 6, 12, 12), (2, 10, 3, 3))
    torch.testing.assert_close(pooled, trunk.norm(third.mean((2, 3))))
    assert torch.equal(first, again)
    odd, _ = trunk(images(47), ["stage3", "lastPOOL"])
    assert odd.shape == (2, 10, 2, 2)
    with pytest.raises(ValueError, match="unknown feature 'stage4': did you mean 'stage"):
        trunk(images(), ["stage4"])


def test_nothing_is_computed_past_the_last_requested_feature() -> None:
    trunk = tiny()
    called: list[nn.Module] = []
    for module in trunk.modules():
        if isinstance(module, Block):
            module.register_forward_hook(lambda module, *_: called.append(module))
    trunk(images(), ["stage2", "stage1"])
    assert len(called) == 3


def test_norm_of_channels() -> None:
    norm, x = ChannelNorm(5, eps=1e-6), torch.randn(2, 5, 3, 4)
    nn.init.normal_(norm.weight)
    want = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-6).sqrt()
    torch.testing.assert_close(norm(x), want * norm.weight[:, None, None])


def test_weights_start_as_they_should() -> None:
    torch.manual_seed(0)
    trunk = ConvNeXt(depths=(1, 1), dims=(96, 192))
    for name, parameter in trunk.named_parameters():
        if name.endswith("gamma"):
            assert (parameter == 1e-6).all()
        elif name.endswith("bias"):
            assert not parameter.any(), name
        elif parameter.ndim == 1:
            assert (parameter == 1).all(), name
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.06), name


def test_stochastic_depth_grows_over_all_blocks_and_ends_with_training() -> None:
    trunk = tiny(drop_path_rate=0.3)
    rates = [module.drop_path.rate for module in trunk.modules() if isinstance(module, Block)]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3])
    torch.manual_seed(0)
    runs = [trunk(images(), ["lastPOOL"])[0] for _ in range(8)]
    assert not all(torch.equal(run, runs[0]) for run in runs)
    trunk.eval()
    assert torch.equal(trunk(images(), ["lastPOOL"])[0], tiny().eval()(images(), ["lastPOOL"])[0])


def test_gradients_reach_every_parameter_and_checkpointing_changes_none() -> None:
    one, other = tiny(), tiny(splits=3)
    for trunk in (one, other):
        sum(x.square().sum() for x in trunk(images(), ["stage1", "lastPOOL"])).backward()
    for (name, mine), theirs in zip(one.named_parameters(), other.parameters(), strict=True):
        assert mine.grad is not None, name
        assert mine.grad.abs().sum() > 0, name
        torch.testing.assert_close(theirs.grad, mine.grad)


def test_channels_and_colours() -> None:
    trunk = ConvNeXt(depths=(1,), dims=(4,), input=Input(channels=5))
    assert trunk(torch.randn(1, 5, 8, 8), ["stage1"])[0].shape == (1, 4, 2, 2)
    grey = ConvNeXt(depths=(1,), dims=(4,), input=Input(color=InputColor.LAB))
    assert grey(torch.randn(1, 3, 8, 8), ["lastPOOL"])[0].shape == (1, 4)


def test_depths_and_dims_of_different_lengths() -> None:
    config = ConvNeXtConf(depths=(3, 3), dims=(96, 192, 384))
    (problem,) = ConvNeXt.problems(config, FACTS)
    assert str(problem) == "dims: there are 3 widths for the 2 stages of depths"
    with pytest.raises(ValueError, match="dims: there are 3 widths for the 2 stages"):
        ConvNeXt(depths=(3, 3), dims=(96, 192, 384))
