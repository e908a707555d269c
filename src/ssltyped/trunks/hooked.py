"""A trunk around any network that someone else has written: features are outputs of its modules, by their names."""

import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ssltyped.trunks.base import Input, Stage, StagedTrunk, check_names, statistics_kept
from ssltyped.types import Features

POOLED = "flatten"
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class _AllFoundError(Exception):
    """The last requested feature is there: the network need not go on."""


def recompute(block: nn.Module) -> None:
    """From now on the activations of a block are computed again in the backward pass of training."""
    forward = functools.partial(_recomputed, block, block.forward)
    setattr(block, "forward", forward)  # noqa: B010  # on this block, not on its class; a copy has its own


def _recomputed(block: nn.Module, forward: Callable[..., object], *args: object, **kwargs: object) -> object:
    if not (block.training and torch.is_grad_enabled()):
        return forward(*args, **kwargs)
    again = functools.partial(forward, *args, **kwargs)
    return checkpoint(again, use_reentrant=False, context_fn=lambda: (nullcontext(), statistics_kept(block)))


class HookedTrunk(StagedTrunk):
    """A network whose output is the pooled feature `flatten` (B D), and whose modules give the others.

    Named are all modules that are no part of a block and give one tensor, with the names of `named_modules`, in the
    order in which they finish; a block is a module with modules of its own in a Sequential, ModuleList or ModuleDict.
    Widths are read from a pass over one image on the meta device.

    The parts between blocks are not known here. So `checkpoint_splits` = n cuts the blocks into n shares and computes
    those of all shares but the last again in the backward pass, each for itself.

    Args:
        model: the network, without a classifier; its first convolution has the channels that are seen.
        image_size: height and width of an image, in pixels, for networks that need to know.
    """

    def __init__(self, *, model: nn.Module, image_size: int, input: Input) -> None:
        super().__init__(input=input)
        self.image_size, self.model = image_size, model
        blocks = [model.get_submodule(name) for name in block_names(model)]
        splits = input.checkpoint_splits
        for block in blocks[: len(blocks) - len(blocks) // splits] if splits else []:
            recompute(block)

    @functools.cached_property
    def _widths(self) -> dict[str, int]:
        finished: list[tuple[str, Tensor]] = []
        shadow = copy.deepcopy(self.model).to("meta").eval()
        blocks = block_names(shadow)
        names = [
            name
            for name, module in shadow.named_modules()
            if name and not isinstance(module, nn.Identity) and not _within(name, blocks)
        ]
        with _hooks(shadow, names, lambda name, x: finished.append((name, x))), torch.no_grad():
            size = (1, self.input.seen_channels, self.image_size, self.image_size)
            pooled: Tensor = shadow(torch.empty(size, device="meta"))
        often = [name for name, _ in finished]
        widths = {name: _width(x) for name, x in finished if often.count(name) == 1 and name != POOLED}
        return {**widths, POOLED: pooled.shape[1]}

    @property
    def feature_dims(self) -> Mapping[str, int]:
        return self._widths

    def stages(self) -> Iterator[Stage]:
        yield Stage(POOLED, self.model)

    def forward(self, images: Float[Tensor, "B C H W"], features: Sequence[str]) -> Features:
        check_names(features, self.feature_dims)
        wanted, found = set(features), dict[str, Tensor]()

        def keep(name: str, x: Tensor) -> None:
            if found.keys() | {name} == wanted:
                found[name] = x
                raise _AllFoundError
            found[name] = x.clone()  # what comes next may work in place

        with _hooks(self.model, sorted(wanted - {POOLED}), keep), suppress(_AllFoundError):
            found[POOLED] = self.model(self.input.see(images))
        return [found[name] for name in features]


def block_names(model: nn.Module) -> list[str]:
    """The outermost modules with children of their own that stand in a container."""
    found: list[str] = []
    for name, module in model.named_modules():
        parent = model.get_submodule(name.rpartition(".")[0]) if name else None
        holds = type(module) in CONTAINERS
        inner = isinstance(parent, CONTAINERS) and next(module.children(), None) is not None
        if inner and not holds and not _within(name, found):
            found.append(name)
    return found


def _within(name: str, blocks: Sequence[str]) -> bool:
    """Whether the module stands inside one of these blocks."""
    return any(name.startswith(f"{block}.") for block in blocks)


@contextmanager
def _hooks(model: nn.Module, names: Sequence[str], call: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Within it, `call` gets the name and the output of each of these modules that gives one tensor."""

    def report(name: str, module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            call(name, output)

    handles = [model.get_submodule(name).register_forward_hook(functools.partial(report, name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _width(x: Tensor) -> int:
    """Channels: the last dimension of (B, D), (B, T, D) and (B, H, W, D), the second of (B, D, H, W)."""
    return x.shape[1] if x.ndim == 4 and x.shape[2] == x.shape[3] else x.shape[-1]


def see_channels(model: nn.Module, channels: int) -> None:
    """Replace the first convolution by a new one for images of so many channels, if it is for another number."""
    name, conv = next((name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d))
    if conv.in_channels == channels:
        return
    assert isinstance(conv.padding, tuple)
    size, stride, padding = _pair(conv.kernel_size), _pair(conv.stride), _pair(conv.padding)
    new = nn.Conv2d(channels, conv.out_channels, size, stride, padding, bias=conv.bias is not None)
    if not new.weight.is_meta:
        nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    replace(model, name, new)


def replace(model: nn.Module, name: str, new: nn.Module) -> None:
    """Put `new` where the module of this name is."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, new)


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    first, second = values
    return first, second
