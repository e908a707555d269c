"""Peak memory and time of SimCLR's loss and gradient against the plain N x N computation.

    python tools/bench/simclr_memory.py [--rows 16384] [--dim 128] [--pairs 3] [--threads 2]

Each measurement is a fresh process: the inputs are made and a small problem is run as a warm-up, then the peak of
the resident memory beyond that point and the time of one loss with its gradient are taken. Ours and the plain
version alternate; the medians of both and of the ratios are printed. Exit code 1 when ours needs more than 1/20 of
the memory or more time than the plain version. float32 on the CPU.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from ssltyped.losses.simclr import SimCLRLoss
from ssltyped.types import Batch, Moment, Outputs

TEMPERATURE = 0.1
CHUNK_SIZE = 256
MAX_MEMORY_RATIO = 1 / 20
MAX_TIME_RATIO = 1.0


class Given:
    """A model that gives these embeddings."""

    def __init__(self, z: Tensor) -> None:
        self.z = z

    def __call__(
        self,
        views: Sequence[Tensor],
        *,
        masks: Sequence[Optional[Tensor]] = (),
        heads: Optional[Sequence[str]] = None,
        features: Mapping[str, str] = MappingProxyType({}),
    ) -> Outputs:
        return Outputs({"projector": (self.z,)}, {})


def ours(z: Tensor) -> Tensor:
    """The framework's loss."""
    view = torch.zeros(1, 1, 1, 1)
    batch = Batch(views=(view, view), index=torch.zeros(1, dtype=torch.int64))
    loss = SimCLRLoss(head="projector", temperature=TEMPERATURE, chunk_size=CHUNK_SIZE)
    return loss.step(Given(z), batch, Moment(0, 1, 1)).loss


def plain(z: Tensor) -> Tensor:
    """The equation with the whole matrix and autograd."""
    u = F.normalize(z, dim=1)
    s = (u @ u.T / TEMPERATURE).fill_diagonal_(-torch.inf)
    positive = torch.arange(len(z)).roll(len(z) // 2)
    return (torch.logsumexp(s, dim=1) - s.gather(1, positive[:, None])[:, 0]).mean()


def _measure(kind: str, rows: int, dim: int, threads: int) -> None:
    """Print {"mib", "seconds", "loss"} of one loss and gradient."""
    torch.set_num_threads(threads)
    function = ours if kind == "ours" else plain
    z = torch.randn(rows, dim, generator=torch.Generator().manual_seed(0)).requires_grad_()
    small = torch.randn(256, dim, requires_grad=True)
    torch.autograd.grad(function(small), small)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    loss = function(z)
    torch.autograd.grad(loss, z)
    seconds = time.perf_counter() - start
    mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"mib": mib, "seconds": seconds, "loss": float(loss.detach())}))


def _run(kind: str, arguments: list[str]) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", kind, *arguments]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    numbers: dict[str, float] = json.loads(out)
    print(f"{kind:6s} {numbers['mib']:8.0f} MiB {numbers['seconds']:7.2f} s   loss {numbers['loss']:.6f}", flush=True)
    return numbers


def _ratio(pairs: list[tuple[dict[str, float], dict[str, float]]], key: str) -> float:
    return statistics.median(mine[key] / theirs[key] for mine, theirs in pairs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"rows": 16384, "dim": 128, "threads": 2}
    for name, value in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--measure", choices=["ours", "plain"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        _measure(options.measure, options.rows, options.dim, options.threads)
        return 0
    arguments = [word for name in sizes for word in (f"--{name}", str(getattr(options, name)))]
    pairs = [(_run("ours", arguments), _run("plain", arguments)) for _ in range(options.pairs)]
    memory, seconds = _ratio(pairs, "mib"), _ratio(pairs, "seconds")
    print(f"memory ratio {memory:.4f} (needs <= {MAX_MEMORY_RATIO}), time ratio {seconds:.3f} (<= {MAX_TIME_RATIO})")
    return 0 if memory <= MAX_MEMORY_RATIO and seconds <= MAX_TIME_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
