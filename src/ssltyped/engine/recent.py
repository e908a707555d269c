"""What a training made of its last images, over all ranks."""

import math
from collections import deque
from collections.abc import Mapping

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ssltyped import distributed


class Recent:
    """By name, what was kept of the last batches: copies, so that nothing large stays alive.

    Args:
        images: of so many images over all ranks, in whole batches; of a larger batch its first ones may stand for all.
    """

    def __init__(self, images: int) -> None:
        self._images = math.ceil(images / distributed.world_size())
        self._kept: dict[str, deque[Shaped[Tensor, "m ..."]]] = {}

    def first_of(self, rows: Float[Tensor, "R D"], images: int) -> Float[Tensor, "m V D"]:
        """Of rows ordered [all images of view 0; all of view 1; ...] those of the first images, as many as are kept."""
        return rows.reshape(-1, images, rows.shape[1])[:, : self._images].transpose(0, 1).float()

    def add(self, name: str, made: Float[Tensor, "m *shape"], images: int) -> None:
        """Keep what was made of a batch of so many images."""
        length = max(1, self._images // images)
        held = self._kept.get(name)
        if held is None or held.maxlen != length or held[0].shape != made.shape:
            held = self._kept[name] = deque(maxlen=length)
        held.append(made.detach().clone())

    def gathered(self) -> dict[str, Float[Tensor, "N *shape"]]:
        """All that is kept, of all ranks (collective)."""
        return {name: distributed.gather_no_grad(torch.cat(list(held))) for name, held in self._kept.items()}

    def state_dict(self) -> dict[str, object]:
        """For a checkpoint, of this rank."""
        return {name: {"kept": list(held), "length": held.maxlen} for name, held in self._kept.items()}

    def load_state_dict(self, state: Mapping[str, object], device: torch.device) -> None:
        """Take over what `state_dict` gave."""
        for name, one in state.items():
            assert isinstance(one, dict)
            self._kept[name] = deque((made.to(device) for made in one["kept"]), maxlen=one["length"])
