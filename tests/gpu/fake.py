"""A GPU that is not there: torch's fake tensors, which know their shape, dtype and device, and have no numbers.

On them a run on "cuda" goes through all of our code on a machine without a card, and an operation on tensors of two
devices raises as it would there. What cannot be had is the backward pass, whose engine asks for the device: gradients
are zeros. Nor is anything saved. A number that the host reads makes it wait for a card, and so does a copy that is not
told not to: each place in our code is counted, and gets 1, or 0 where it asks for a whole number.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import cast
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

import ssltyped
from ssltyped import config
from ssltyped.data.workers import Answers
from ssltyped.engine.trainer import Trainer
from ssltyped.experiment import Experiment, build_trainer
from ssltyped.resolution import resolve_experiment

CARD = torch.device("cuda", 0)
READ, TAKE = torch.ops.aten._local_scalar_dense.default, torch.ops.aten.index.Tensor
COPY = torch.ops.aten._to_copy.default
OURS = str(Path(ssltyped.__file__).parent)


class Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Answers what the host reads of the card, and counts by the function of ours where it waits for it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.places = Counter[str]()

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        if func is READ:
            return self._number(args[0])
        if func is TAKE:
            args = (args[0], [index for one in _list(args[1]) for index in self._numbers_of(one)])
        if func is COPY and isinstance(args[0], Tensor) and not kwargs.get("non_blocking"):
            ends = {args[0].device.type, getattr(kwargs.get("device"), "type", "")}
            if ends == {"cpu", "cuda"}:
                self._note()
        return func(*args, **kwargs)

    def _number(self, tensor: object) -> object:
        assert isinstance(tensor, Tensor)
        if tensor.device.type == "cuda":
            self._note()
        else:
            try:
                return READ(tensor)
            except DataDependentOutputException:  # it was copied from the card
                pass
        return 1.0 if tensor.is_floating_point() else tensor.dtype != torch.bool and 0

    def _numbers_of(self, index: object) -> list[object]:
        """A mask chooses as many rows as it says: one, here, and the card is waited for."""
        if not isinstance(index, Tensor) or index.dtype != torch.bool:
            return [index]
        self._note()
        return [torch.zeros(1, dtype=torch.int64, device=index.device)] * index.ndim

    def _note(self) -> None:
        frame = inspect.currentframe()
        while frame is not None and not frame.f_code.co_filename.startswith(OURS):
            frame = frame.f_back
        if frame is not None:  # else a test does
            self.places[f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}"] += 1


def _list(indices: object) -> list[object]:
    assert isinstance(indices, list | tuple)
    return list(indices)


@contextmanager
def fake_card() -> Iterator[Reads]:
    """Within the block tensors are fake, also those on the card; data is read, and parts are made, with real ones."""
    reads = Reads()
    with ExitStack() as stack, mock.patch.object(FakeTensorMode, "__deepcopy__", _itself, create=True):
        for owner, name, stand_in in (
            (nn.Module, "_apply", _moved),
            (torch.autograd, "backward", _backward),
            (torch.autograd, "grad", _grad),
            (torch.cuda, "synchronize", _nothing),
            (Trainer, "_save", _nothing),
            (config, "build", _really(config.build)),
            (Answers, "__init__", _really(Answers.__init__)),
            (Answers, "__next__", _really(Answers.__next__)),
        ):
            stack.enter_context(mock.patch.object(owner, name, stand_in))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield stack.enter_context(reads)


def _really(function: Callable[..., object]) -> Callable[..., object]:
    def called(*args: object, **kwargs: object) -> object:
        with _disable_current_modes():
            return function(*args, **kwargs)

    return called


def _itself(mode: FakeTensorMode, memo: object) -> FakeTensorMode:
    return mode


def _nothing(*args: object, **kwargs: object) -> None:
    return None


_LEARNING: list[Tensor] = []
"""The parameters of what is trained: the tensors of a module cannot be asked for by way of its loss."""


def _moved(module: nn.Module, move: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """`nn.Module._apply`, which moves a parameter in place; a fake one is put in the place of the real one."""
    made: dict[Tensor, Tensor] = {}
    for part in module.modules():
        tensors = {**part._parameters, **part._buffers}
        for name, old in tensors.items():
            if old is None or old.device == CARD:
                continue
            learns = isinstance(old, nn.Parameter)
            if old not in made:
                new = move(old.detach())
                made[old] = nn.Parameter(new, requires_grad=old.requires_grad) if learns else new
            cast("dict[str, Tensor]", part._parameters if learns else part._buffers)[name] = made[old]
    return module


def _backward(loss: Tensor) -> None:
    assert loss.requires_grad
    for parameter in _LEARNING:
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None


def _grad(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    assert loss.requires_grad
    return [torch.zeros_like(parameter) for parameter in parameters]


def fit_on_fake_card(asked: Experiment, folder: Path, *, from_step: int = 0) -> Counter[str]:
    """Train on a card that is not there, from a step on; where its numbers were read, and how often."""
    resolution = resolve_experiment(asked)
    with fake_card() as reads:
        trainer = build_trainer(resolution.config, device=CARD, folder=folder, facts=resolution.facts)
        state = trainer._step.module.state_dict()
        assert {tensor.device for tensor in state.values() if isinstance(tensor, Tensor)} == {CARD}
        _LEARNING[:] = list(trainer._step.module.parameters())
        trainer.step = from_step
        trainer.fit()
    return reads.places
