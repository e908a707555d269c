"""One step of a method on any device, in any precision, and how far it is from that of the CPU in float32."""

from __future__ import annotations

import dataclasses
import math
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from other_methods import with_weights
from stops import StopConf
from torch import Tensor

from ssltyped.config import replaced
from ssltyped.engine.checkpoint import CheckpointStore
from ssltyped.engine.parallel import Precision
from ssltyped.engine.trainer import Outcome
from ssltyped.experiment import Experiment, build_trainer
from ssltyped.resolution import resolve_experiment

CPU = torch.device("cpu")
STEPS, BEGUN = 4, 3
"""The last step of four starts an epoch: queues are full, teachers behind, clusters are made."""

SCALE = 2.0**10
"""What a run's gradients are multiplied by in fp16, once it has skipped the steps in which more overflowed."""

ROUNDING: Mapping[Precision, float] = {
    Precision.FP32: 32 * torch.finfo(torch.float32).eps / 2,
    Precision.BF16: torch.finfo(torch.bfloat16).eps / 2,
    Precision.FP16: torch.finfo(torch.float16).eps / 2,
}
"""u: how far a number is rounded, relative to it. In float32 a device may also add hundreds of products in another
order: 32 roundings. TF32 keeps 10 bits, and is 250 of these apart.

What may be apart follows from u. Loss and statistics are linear in it. A gradient is not: of the ReLUs a share that
grows with u is on the other side of 0, so that its error grows with the square root of u, and 1 - cosine with u. The
factors are about twice the largest that any method shows on the CPU in bf16 and fp16.
"""

TURNED: Mapping[Precision, float] = {Precision.FP32: 96, Precision.BF16: 96, Precision.FP16: 264}
"""How far, in u, the direction of the gradient may be turned: 1 - cosine.

In a model as small as these few ReLUs are near 0, and one on the other side turns the gradient far, whatever u is: in
fp16 one method shows anything from 2 to 118 u, by chance. Of 12 steps per method on the CPU, from weights that differ
by one rounding, the farthest was 64 u in bf16 (BYOL) and 132 u in fp16 (Barlow Twins; `msn_distillation` 118 u, and
112 u on an H200).
"""


@dataclasses.dataclass(frozen=True)
class Stepped:
    """What one step made, on the CPU in float64.

    Args:
        loss: of the step.
        gradient: of every parameter that has one.
        moved: by how much each tensor of the state has changed, of the model as of the method.
    """

    loss: float
    gradient: Mapping[str, Tensor]
    moved: Mapping[str, Tensor]


def begun(asked: Experiment, folder: Path) -> tuple[Experiment, Path]:
    """The method without dropout, whose random numbers are a device's own, and where it is after three steps."""
    folder.mkdir(exist_ok=True)
    asked = with_weights(asked, folder / "teacher.pt")
    still = {f"trunk.{field}": 0.0 for field in ("dropout_rate", "drop_path_rate") if hasattr(asked.trunk, field)}
    asked = replaced(asked, {**still, "steps": STEPS, "epochs": None})
    resolution = resolve_experiment(replaced(asked, {"callbacks": [StopConf(at=BEGUN, number=signal.SIGTERM)]}))
    trainer = build_trainer(resolution.config, device=CPU, folder=folder, facts=resolution.facts)
    assert trainer.fit() is Outcome.INTERRUPTED
    checkpoint = CheckpointStore(folder / "checkpoints").newest()
    assert checkpoint is not None
    return asked, checkpoint


def stepped(asked: Experiment, checkpoint: Path, device: torch.device, precision: Precision, folder: Path) -> Stepped:
    """The step after a checkpoint: forward, backward, the optimizer, the update of the method."""
    folder.mkdir(exist_ok=True)
    resolution = resolve_experiment(replaced(asked, {"precision": precision}))
    trainer = build_trainer(resolution.config, device=device, folder=folder, facts=resolution.facts)
    step = trainer._step
    step.scaler = torch.amp.GradScaler(device.type, init_scale=SCALE, enabled=precision is Precision.FP16)
    saved = torch.load(checkpoint / "state.pt", weights_only=True)["module"]
    assert trainer.fit(resume=checkpoint) is Outcome.FINISHED
    now = step.module.state_dict()
    before = {name: value for name, value in saved.items() if isinstance(value, Tensor)}
    return Stepped(
        loss=trainer.metrics["loss"],
        gradient={name: here(p.grad) for name, p in step.module.named_parameters() if p.grad is not None},
        moved={name: here(now[name]) - here(value) for name, value in before.items()},
    )


def here(tensor: Tensor) -> Tensor:
    """On the CPU, in float64."""
    return tensor.detach().to(CPU, torch.float64)


def apart(found: Stepped, wanted: Stepped, precision: Precision) -> Iterator[str]:
    """What differs by more than the precision explains; nothing if all is well."""
    u = ROUNDING[precision]
    if found.gradient.keys() != wanted.gradient.keys():
        yield f"gradients of {sorted(found.gradient.keys() ^ wanted.gradient.keys())} are there in one of both only"
        return
    learning = wanted.gradient.keys() & wanted.moved.keys()
    kinds = {
        "the parameters": (learning, 12 * math.sqrt(u)),
        "the model's statistics": (_below("model.", wanted) - learning, 16 * u),
        "the method's state": (_below("loss.", wanted) - learning, 16 * u),
    }
    errors = {
        "the loss": (abs(found.loss - wanted.loss) / max(1.0, abs(wanted.loss)), 32 * u),
        "the direction of the gradient": (1 - cosine(found.gradient, wanted.gradient), TURNED[precision] * u),
        **{what: (error(found.moved, wanted.moved, names), most) for what, (names, most) in kinds.items()},
    }
    for what, (far, most) in errors.items():
        if not far <= most:  # nan is not
            yield f"{what}: {far:.1e} apart, and {most:.1e} may be"


def _below(prefix: str, stepped: Stepped) -> set[str]:
    return {name for name in stepped.moved if name.startswith(prefix)}


def error(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], names: Iterable[str]) -> float:
    """The length of the difference over the length of what is wanted; nan if one of them is not finite."""
    ours, theirs = (
        torch.cat([torch.zeros(1), *(one[name].flatten() for name in sorted(names))]) for one in (found, wanted)
    )
    return float((ours - theirs).norm() / theirs.norm().clamp(min=1e-12))


def cosine(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> float:
    """Of two gradients, each as one vector."""
    ours, theirs = (torch.cat([one[name].flatten() for name in wanted]) for one in (found, wanted))
    return float(F.cosine_similarity(ours, theirs, dim=0))


@contextmanager
def without_tf32() -> Iterator[None]:
    """Within the block a card computes products of float32 in float32; convolutions do not by themselves."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
