"""What the meters share that need all scores at once."""

from abc import abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ssltyped import distributed
from ssltyped.types import Meter, Target


class GatheredMeter(Meter):
    """A measure of all scores (B K) and targets (B, or B K) since `reset`, over all ranks.

    They are kept on the host, as float32 and whole numbers, and gathered from the ranks, whose batches may differ in
    size, and of which some may have none. torchmetrics's own gathering waits for ever for a rank without images.
    """

    def __init__(self) -> None:
        self._seen: list[tuple[Float[Tensor, "B K"], Target]] = []

    @abstractmethod
    def measure(self, scores: Float[Tensor, "N K"], targets: Int[Tensor, "N *K"]) -> dict[str, float]:
        """The values, of the images of all ranks."""

    def update(self, output: Float[Tensor, "B K"], target: Target) -> None:
        numbers = torch.int64 if target.ndim == 1 else torch.int8
        self._seen.append((output.detach().float().cpu(), target.to(numbers).cpu()))

    def compute(self) -> dict[str, float]:
        return self.measure(*self.gathered())

    def gathered(self) -> tuple[Float[Tensor, "N K"], Int[Tensor, "N *K"]]:
        """All scores and targets, in rank order; every rank calls it."""
        mine = [[scores.shape[1], target.ndim] for scores, target in self._seen[:1]] or [[0, 1]]
        # A rank that has seen no image does not know the number of classes.
        classes, ndim = distributed.gather_no_grad(torch.tensor(mine)).amax(dim=0).tolist()
        nothing = torch.zeros(0, dtype=torch.int64) if ndim == 1 else torch.zeros(0, classes, dtype=torch.int8)
        scores = torch.cat([torch.zeros(0, classes), *(scores for scores, _ in self._seen)])
        targets = torch.cat([nothing, *(target for _, target in self._seen)])
        return distributed.gather_uneven(scores), distributed.gather_uneven(targets)

    def reset(self) -> None:
        self._seen = []
