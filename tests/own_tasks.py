"""Tasks as a stranger would write them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Optional, Self

import torch
from annotated_types import Gt

from ssltyped import distributed
from ssltyped.config import INFERRED, config_for
from ssltyped.engine.parallel import Distributed, DistributedConf
from ssltyped.types import Facts, Inference, Problem, Task


class Count(Task):
    """Counts to n, with all ranks together, and notes each start.

    Args:
        n: how far.
        double: twice that.
        distributed: the ranks.
        output: folder of all runs.
        name: folder of this one.
    """

    def __init__(
        self,
        *,
        n: Annotated[int, Gt(0)] = 3,
        double: int = INFERRED,
        distributed: Distributed = DistributedConf(),
        output: Path = Path("runs"),
        name: Optional[str] = None,
    ) -> None:
        self.n, self.double, self.distributed, self.output, self.name = n, double, distributed, output, name

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        yield Inference("double", 2 * config.n, "twice n")

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if config.n == 13:
            yield Problem("n", "got 13: no luck")

    @classmethod
    def warnings(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if config.n > 100:
            yield Problem("n", f"{config.n} takes long")

    def run(self, folder: Path) -> Mapping[str, float]:
        share = len(range(distributed.rank(), self.n, distributed.world_size()))
        total = distributed.all_reduce_sum(torch.tensor(share))
        if distributed.is_main():
            with (folder / "starts.txt").open("a") as file:
                file.write("started\n")
        if self.n == 7:
            raise RuntimeError("seven")
        return {"count": float(total), "ranks": float(distributed.world_size())}

    def plan(self) -> Iterator[str]:
        yield f"counts to {self.n}"


CountConf = config_for(Count)

recipe = CountConf()
