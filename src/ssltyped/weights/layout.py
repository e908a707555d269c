"""How another code base names and shapes the entries of a module's state dict, and loading what it saved."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from ssltyped.config.hints import misfits

Rename: TypeAlias = tuple[str, str | Callable[[re.Match[str]], str]]
"""A regular expression, and what takes the place of what it matches."""

_SEVERAL = re.compile(r"\{(.*?)\}")
"""In their name: alternatives, for an entry of ours that is several of theirs."""

_COUNTED = r"\.num_batches_tracked$"
"""What old files and other frameworks do not count; it says nothing where the momentum of a batch norm is set."""


@dataclasses.dataclass(frozen=True)
class Found:
    """What a file has for a module.

    Args:
        entries: theirs by our names, in our shapes where the sizes agree.
        rest: names of theirs that are none of ours.
        absent: entries of ours that their format does not have.
    """

    entries: Mapping[str, Tensor]
    rest: tuple[str, ...]
    absent: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Layout:
    """Their names for our entries: `renames` are (regular expression, replacement) pairs, applied in this order.

    A name with alternatives, such as `{query,key,value}.weight`, stands for several entries of theirs, which are ours
    one above the other. `extras` are entries that only they have, with values of the right shape; `dropped` is a
    regular expression for entries that only we have. Tensors of equal size and another shape (a 1x1 convolution that
    they hold as a linear layer) are reshaped; `shapes` gives theirs for entries of ours that match its expressions.
    """

    renames: Sequence[Rename] = ()
    extras: Callable[[nn.Module], Mapping[str, Tensor]] = lambda module: {}
    dropped: str = r"(?!)"
    shapes: Sequence[tuple[str, tuple[int, ...]]] = ()

    def name(self, ours: str) -> str:
        """Their name of our entry."""
        for pattern, replacement in self.renames:
            ours = re.sub(pattern, replacement, ours)
        return ours

    def all_names(self, ours: str) -> list[str]:
        """Their names of what our entry is to them."""
        name = self.name(ours)
        several = _SEVERAL.search(name)
        return [_SEVERAL.sub(one, name) for one in several[1].split(",")] if several else [name]

    def export(self, module: nn.Module) -> dict[str, Tensor]:
        """The module's state dict as they would have saved it; in our order, their extras last."""
        state: dict[str, Tensor] = {}
        for key, value in module.state_dict().items():
            if not re.search(self.dropped, key):
                names = self.all_names(key)
                parts = value.chunk(len(names)) if len(names) > 1 else [value]
                state |= {name: self._shaped(key, part) for name, part in zip(names, parts, strict=True)}
        return {**state, **self.extras(module)}

    def load(self, module: nn.Module, theirs: Mapping[str, Tensor]) -> None:
        """Load what they saved: every entry of ours from theirs, every entry of theirs used.

        Raises:
            ValueError: what is missing, of another size, or left over; all of it, with the nearest names.
        """
        needed, given = ({key: value.shape for key, value in state.items()} for state in (self.export(module), theirs))
        if wrong := misfits(needed, given):
            raise ValueError(f"the weights do not fit {type(module).__name__}: " + "; ".join(wrong[:20]))
        found = self.find(module, theirs).entries
        with torch.no_grad():
            for key, value in module.state_dict().items():
                if key in found:
                    value.copy_(found[key])

    def find(self, module: nn.Module, theirs: Mapping[str, Tensor]) -> Found:
        """What there is in `theirs` for the entries of a module, whatever else there is or is not."""
        found: dict[str, Tensor] = {}
        used, absent = set(self.extras(module)), []
        for key, value in module.state_dict().items():
            names = self.all_names(key)
            if all(name in theirs for name in names):
                parts = [theirs[name] for name in names]
                whole = torch.cat(parts) if len(parts) > 1 else parts[0]
                found[key] = whole.reshape(value.shape) if whole.numel() == value.numel() else whole
                used.update(names)
            elif re.search(self.dropped, key) or re.search(_COUNTED, f".{key}"):
                absent.append(key)
        return Found(found, tuple(name for name in theirs if name not in used), tuple(absent))

    def _shaped(self, key: str, value: Tensor) -> Tensor:
        for pattern, shape in self.shapes:
            if re.search(pattern, key):
                return value.reshape(shape)
        return value
