"""How another code base names and shapes the entries of a module's state dict, and loading what it saved."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ssltyped.config.hints import misfits


@dataclasses.dataclass(frozen=True)
class Layout:
    """Their names for our entries: `renames` are (regular expression, replacement) pairs, applied in this order.

    `extras` are entries that only they have, with values of the right shape; `dropped` is a regular expression for
    entries that only we have. Tensors of equal size and another shape (a 1x1 convolution that they hold as a linear
    layer) are reshaped; `shapes` gives theirs for entries of ours that match its expressions.
    """

    renames: Sequence[tuple[str, str]] = ()
    extras: Callable[[nn.Module], Mapping[str, Tensor]] = lambda module: {}
    dropped: str = r"(?!)"
    shapes: Sequence[tuple[str, tuple[int, ...]]] = ()

    def name(self, ours: str) -> str:
        """Their name of our entry."""
        for pattern, replacement in self.renames:
            ours = re.sub(pattern, replacement, ours)
        return ours

    def export(self, module: nn.Module) -> dict[str, Tensor]:
        """The module's state dict as they would have saved it; in our order, their extras last."""
        state = {
            self.name(key): self._shaped(key, value)
            for key, value in module.state_dict().items()
            if not re.search(self.dropped, key)
        }
        return {**state, **self.extras(module)}

    def load(self, module: nn.Module, theirs: Mapping[str, Tensor]) -> None:
        """Load what they saved: every entry of ours from theirs, every entry of theirs used.

        Raises:
            ValueError: what is missing, of another size, or left over; all of it, with the nearest names.
        """
        needed, given = ({key: value.shape for key, value in state.items()} for state in (self.export(module), theirs))
        if wrong := misfits(needed, given):
            raise ValueError(f"the weights do not fit {type(module).__name__}: " + "; ".join(wrong[:20]))
        with torch.no_grad():
            for key, value in module.state_dict().items():
                if not re.search(self.dropped, key):
                    value.copy_(theirs[self.name(key)].reshape(value.shape))

    def _shaped(self, key: str, value: Tensor) -> Tensor:
        for pattern, shape in self.shapes:
            if re.search(pattern, key):
                return value.reshape(shape)
        return value
