"""What all trunks share: what they see of images, the order of features, stopping early, checkpointing."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Optional

import pytest
import torch
from facts import FACTS
from ranks import run_on_ranks
from tiny import tiny
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ssltyped import ConfigError, distributed, override
from ssltyped.distributed.sync_batch_norm import SyncBatchNorm, convert_sync_batchnorm
from ssltyped.resolution import resolve_experiment
from ssltyped.trunks.base import Input, InputColor, InputConf, Stage, StagedTrunk, cut, statistics_kept
from ssltyped.trunks.resnet import ResNet
from ssltyped.types import Features


class Chain(StagedTrunk):
    """Blocks of convolution, batch norm, dropout and an in-place relu; every second one is a feature."""

    def __init__(self, *, input: Optional[Input] = None) -> None:
        super().__init__(input=input or Input())
        widths = [self.input.seen_channels] + [4] * 6
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, 3), nn.BatchNorm2d(o, momentum=None), nn.ReLU(inplace=True), nn.Dropout(0.2))
            for i, o in itertools.pairwise(widths)
        )
        self.calls: list[int] = []

    @property
    def feature_dims(self) -> Mapping[str, int]:
        return {"b2": 4, "b4": 4, "b6": 4}

    def stages(self) -> Iterator[Stage]:
        for i, block in enumerate(self.blocks, start=1):
            yield Stage(None if i % 2 else f"b{i}", partial(self._counted, i, block))

    def _counted(self, i: int, block: nn.Module, x: Tensor) -> Tensor:
        self.calls.append(i)
        y: Tensor = block(x)
        return y


def images(channels: int = 3) -> Tensor:
    return torch.randn(2, channels, 16, 16, generator=torch.Generator().manual_seed(1))


def test_features_in_the_requested_order_and_no_block_past_the_last() -> None:
    trunk = Chain().eval()
    with torch.no_grad():
        b4, b2, again = trunk(images(), ["b4", "b2", "b4"])
    assert trunk.calls == [1, 2, 3, 4]
    assert torch.equal(b4, again)
    assert torch.equal(b4, trunk.blocks[3](trunk.blocks[2](b2)))
    assert trunk(images(), []) == []
    assert trunk.calls == [1, 2, 3, 4]


def test_unknown_features_name_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown feature 'block4': did you mean 'b4'\\? There are b2, b4, b6"):
        Chain()(images(), ["b2", "block4"])


def test_what_the_network_sees_of_a_colour() -> None:
    rgb, bgr, lab = (Chain(input=Input(color=color)).eval() for color in InputColor)
    assert [trunk.blocks.get_parameter("0.0.weight").shape[1] for trunk in (rgb, bgr, lab)] == [3, 3, 1]
    bgr.load_state_dict(rgb.state_dict())
    assert torch.equal(bgr(images(), ["b6"])[0], rgb(images().flip(1), ["b6"])[0])
    assert Chain(input=Input(channels=7))(images(7), ["b2"])[0].shape == (2, 4, 12, 12)


def test_runs_are_consecutive_and_as_equal_as_can_be() -> None:
    stages = [Stage(str(i), nn.Identity()) for i in range(7)]
    assert [[stage.feature for stage in run] for run in cut(stages, 3)] == [["0", "1"], ["2", "3"], ["4", "5", "6"]]
    assert [len(run) for run in cut(stages, 99)] == [1] * 7
    assert cut([], 3) == [[]]


def trained(trunk: StagedTrunk, features: list[str], passes: int) -> tuple[Tensor, Features, dict[str, Tensor]]:
    """Loss, gradients and the state afterwards of one step of `passes` passes, with the same random numbers."""
    torch.manual_seed(7)
    views = [images() * (i + 1) for i in range(passes)]
    loss = torch.stack([f.square().sum().sqrt() for view in views for f in trunk(view, features)]).sum()
    torch.autograd.backward(loss)
    grads = [parameter.grad for parameter in trunk.parameters() if parameter.grad is not None]
    return loss.detach(), grads, trunk.state_dict()


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("features", [["b6"], ["b6", "b2"], ["b4"]])
@pytest.mark.parametrize("splits", [2, 3, 9])
def test_checkpointing_changes_no_number(splits: int, features: list[str], passes: int) -> None:
    """Bitwise: loss, gradients, running statistics (moved once a pass) and their counter; dropout draws again."""
    torch.manual_seed(0)
    plain = Chain()
    split = Chain(input=Input(checkpoint_splits=splits))
    split.load_state_dict(plain.state_dict())
    want, got = trained(plain, features, passes), trained(split, features, passes)
    torch.testing.assert_close(got, want, rtol=0, atol=0)
    assert len(split.calls) > len(plain.calls)
    assert got[2]["blocks.0.1.num_batches_tracked"] == passes
    assert all(block.get_submodule("1").momentum is None for block in split.blocks)


@pytest.mark.parametrize("features", [["flatten"], ["res5", "conv1", "res3"]])
def test_checkpointing_a_resnet_changes_no_number(features: list[str]) -> None:
    plain = ResNet(depth=18, width_multiplier=0.125)
    split = ResNet(depth=18, width_multiplier=0.125, input=Input(checkpoint_splits=4))
    split.load_state_dict(plain.state_dict())
    torch.testing.assert_close(trained(split, features, 2), trained(plain, features, 2), rtol=0, atol=0)


def test_nothing_is_computed_twice_in_evaluation_or_without_gradients() -> None:
    trunk = Chain(input=Input(checkpoint_splits=3))
    with torch.no_grad():
        trunk(images(), ["b6"])
    trunk.eval()(images(), ["b6"])[0].sum().backward()
    assert trunk.calls == [1, 2, 3, 4, 5, 6] * 2


def test_blocks_are_computed_again_but_for_the_last_run() -> None:
    trunk = Chain(input=Input(checkpoint_splits=3))
    trunk(images(), ["b6"])[0].sum().backward()
    assert trunk.calls == [1, 2, 3, 4, 5, 6, 3, 4, 1, 2]


def test_what_is_kept_for_the_backward_pass_gets_less_with_more_runs() -> None:
    def kept(splits: int) -> int:
        sizes: dict[int, int] = {}

        def remember(tensor: Tensor) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        trunk = ResNet(depth=50, width_multiplier=0.125, input=Input(checkpoint_splits=splits))
        with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
            (flat,) = trunk(torch.randn(2, 3, 64, 64), ["flatten"])
        assert flat.requires_grad
        weights = {parameter.untyped_storage().data_ptr() for parameter in trunk.parameters()}
        return sum(size for pointer, size in sizes.items() if pointer not in weights)

    sizes = [kept(splits) for splits in (0, 2, 4)]
    assert sizes[0] > 3 * sizes[1]
    assert sizes[1] > 1.5 * sizes[2]


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, SyncBatchNorm])
def test_statistics_stay_where_they_are_also_after_an_error(kind: type[nn.BatchNorm2d]) -> None:
    norm = kind(num_features=3)
    before = copy.deepcopy(norm.state_dict())
    with pytest.raises(RuntimeError, match=r"running_mean|size of tensor"), statistics_kept(norm):
        norm(torch.cat([norm(images() + 1)] * 2, dim=1))
    torch.testing.assert_close(norm.state_dict(), before, rtol=0, atol=0)
    norm(images() + 1)
    assert norm.num_batches_tracked is not None
    assert norm.num_batches_tracked.item() == 1
    assert norm.momentum == 0.1


def _step_on_a_rank(splits: int) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Gradients and state after a step of two passes with synchronised batch norms, under DDP."""
    torch.manual_seed(0)
    trunk = ResNet(depth=18, width_multiplier=0.125, input=Input(checkpoint_splits=splits))
    wrapped = DistributedDataParallel(convert_sync_batchnorm(trunk, 2))
    views = [images() * (1 + view) + distributed.rank() for view in range(2)]
    torch.autograd.backward(torch.stack([wrapped(view, ["flatten"])[0].square().sum() for view in views]).sum())
    return [p.grad.clone() for p in trunk.parameters() if p.grad is not None], trunk.state_dict()


def test_checkpointing_changes_no_number_on_ranks_that_share_statistics() -> None:
    """The second pass sums the statistics over the ranks again, and moves the running ones no further."""
    want, got = run_on_ranks(_step_on_a_rank, 2, 0), run_on_ranks(_step_on_a_rank, 2, 4)
    assert want[0][1]["bn1.num_batches_tracked"] == 2
    torch.testing.assert_close(got, want, rtol=0, atol=0)
    torch.testing.assert_close(got[0], got[1], rtol=0, atol=0)


def test_what_is_seen_of_a_colour() -> None:
    rgb, bgr, lab = (Input(color=color) for color in InputColor)
    assert [input.seen_channels for input in (rgb, bgr, lab, Input(channels=7))] == [3, 3, 1, 7]
    assert torch.equal(rgb.see(images()), images())
    assert torch.equal(bgr.see(images()), images()[:, [2, 1, 0]])
    assert torch.equal(lab.see(images()), images()[:, :1])
    assert torch.equal(Input(channels=7).see(images(7)), images(7))


@pytest.mark.parametrize("color", [InputColor.BGR, InputColor.LAB])
def test_a_colour_order_needs_three_channels(color: InputColor) -> None:
    text = f"{color.value.upper()} is an order of 3 channels; channels is 4"
    problems = list(Input.problems(InputConf(channels=4, color=color), FACTS))
    assert [(problem.path, problem.message) for problem in problems] == [("color", text)]
    with pytest.raises(ValueError, match=text):
        Input(channels=4, color=color)


def test_one_split_is_no_split_and_refused() -> None:
    assert [p.path for p in Input.problems(InputConf(checkpoint_splits=1), FACTS)] == ["checkpoint_splits"]
    with pytest.raises(ValueError, match="1 has no effect"):
        Input(checkpoint_splits=1)


def test_channels_are_those_of_the_data() -> None:
    five = dataclasses.replace(FACTS, num_channels=5)
    assert not list(Input.problems(InputConf(channels=5), five))
    (problem,) = Input.problems(InputConf(), five)
    assert (problem.path, problem.message) == ("channels", "got 3, but data.mean has 5 values")


def test_every_trunk_has_one_of_its_own() -> None:
    first, second = ResNet(depth=18), ResNet(depth=18)
    assert (first.input.channels, first.input.color, first.input.checkpoint_splits) == (3, InputColor.RGB, 0)
    assert first.input is not second.input


@pytest.mark.parametrize(
    ("change", "says"),
    [("channels=4", "got 4, but data.mean has 3 values"), ("checkpoint_splits=1", "1 has no effect")],
)
def test_a_recipe_checks_it(change: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_experiment(override(tiny(), [f"trunk.input.{change}"]))
    (problem,) = caught.value.problems
    assert problem.path.startswith("trunk.input")
    assert change.partition("=")[0] in str(problem)
    assert says in problem.message
