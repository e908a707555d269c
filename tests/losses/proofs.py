"""What every loss has to prove; `test_proofs.py` runs it, and a new loss joins its list with one line.

The model of the proofs is linear: view v (B, D, 1, 1) gives the embeddings v @ weight, and scores for losses that
need prototypes. Every call of it is recorded, so that the loss written in plain loops sees the very same outputs.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Optional

import torch
from torch import Tensor, nn

from ssltyped import distributed
from ssltyped.types import Batch, Facts, Loss, Moment, Outputs

IMAGES, DIM = 8, 5
HEAD = "head"
NOTHING: Mapping[str, str] = MappingProxyType({})
STEPS = 10
"""Of the run that the steps of a proof are the first of; each is an epoch."""


class Scores(nn.Module):
    """The head of a model of the proofs: matrices (D, K), whose columns are prototypes."""

    def __init__(self, matrices: Sequence[Tensor]) -> None:
        super().__init__()
        self.scored = nn.ParameterList([nn.Parameter(matrix) for matrix in matrices])

    def prototype_weights(self) -> list[Tensor]:
        return [matrix.T for matrix in self.scored]

    @torch.no_grad()
    def normalize_prototypes(self) -> None:
        for matrix in self.scored:
            matrix.div_(matrix.norm(dim=0))


class LinearModel(nn.Module):
    """Outputs: the embeddings views @ weight (V B, D), then for each matrix in `scored` the embeddings @ matrix.

    They are the outputs of one head, `head`, or each that of a head of its own, `0`, `1` ...: `apart`.
    """

    def __init__(self, dim: int = DIM, scored: Sequence[int] = (), embeds: bool = True, apart: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(dim, dtype=torch.float64) + 0.1 * waves(dim, dim))
        self.heads = nn.ModuleDict({HEAD: Scores([waves(dim, k) for k in scored])})
        self.embeds, self.apart = embeds, apart
        self.calls: list[list[Tensor]] = []

    @property
    def scored(self) -> Sequence[Tensor]:
        head = self.heads[HEAD]
        assert isinstance(head, Scores)
        return list(head.scored)

    def forward(
        self,
        views: Sequence[Tensor],
        *,
        masks: Sequence[Optional[Tensor]] = (),
        heads: Optional[Sequence[str]] = None,
        features: Mapping[str, str] = NOTHING,
    ) -> Outputs:
        z = torch.cat([view.flatten(1) for view in views]) @ self.weight
        return self.recorded([z.clone()] * self.embeds + [z @ matrix for matrix in self.scored])

    def recorded(self, outputs: list[Tensor]) -> Outputs:
        """These outputs, of which the call is noted."""
        for output in outputs:
            if output.requires_grad:
                output.retain_grad()
        self.calls.append(outputs)
        apart = {str(number): (output,) for number, output in enumerate(outputs)}
        return Outputs(apart if self.apart else {HEAD: tuple(outputs)}, {})


class PatchModel(LinearModel):
    """Outputs of images (B, D, h, w): scores of the mean patch (V B, K), and of every patch (V B, h w, K').

    A masked patch is a learned vector. Asked for another feature, it gives the first output only.
    """

    def __init__(self) -> None:
        super().__init__(scored=(6, 4))
        self.token = nn.Parameter(waves(DIM))

    def forward(
        self,
        views: Sequence[Tensor],
        *,
        masks: Sequence[Optional[Tensor]] = (),
        heads: Optional[Sequence[str]] = None,
        features: Mapping[str, str] = NOTHING,
    ) -> Outputs:
        patches = torch.cat([view.flatten(2).transpose(1, 2) for view in views])
        known = [mask.flatten(1) for mask in masks if mask is not None]
        mask = torch.cat(known) if known else torch.zeros(patches.shape[:2], dtype=torch.bool)
        z = torch.where(mask[:, :, None], self.token, patches) @ self.weight
        return self.recorded([z.mean(dim=1) @ self.scored[0], z @ self.scored[1]][: 1 if features else 2])


class Slow(NamedTuple):
    """A loss in plain loops, and the state after the step (those entries of the loss's state dict that it knows)."""

    loss: Tensor
    state: Mapping[str, Tensor] = {}


class Seen(NamedTuple):
    """What the plain loops are given of the world's N images."""

    outputs: list[list[Tensor]]
    """A list of outputs for each call of the model, rows [all N of view 0; all N of view 1; ...]."""
    teacher: list[list[Tensor]]
    """Likewise of the method's teacher."""
    state: Mapping[str, Tensor]
    """The loss's state dict before the step."""
    weights: Mapping[str, Tensor]
    """The model's state dict before the step."""
    batch: Batch
    step: int


def no_teacher(loss: Loss) -> list[nn.Module]:
    return []


@dataclasses.dataclass(frozen=True)
class Proof:
    """A loss and what it is compared with.

    Args:
        name: of the method.
        make: the loss.
        slow: the paper's equations in plain loops.
        num_views: V.
        model: what it is trained with.
        batch: the global batch of a step and a number of images; by default V views of normal noise, labels and the
            images' numbers.
        teacher: the modules in the loss that record their calls.
        world_state: this rank's state as it compares with that of one process; by default all of it.
        memory_growth: bytes kept for the backward pass grow as (images) ** this, at one rank; 0: it is made for one
            number of images.
        time_growth: products of matrices grow as (images) ** this, at one rank.
        accumulates: whether accumulated batches are one large batch, also when images that count nothing are spread
            unevenly over them; if the loss has a `whole_batch`, `problems` says why not.
        single: whether one image a rank is enough; if not, `problems` says so.
        bfloat16: how far the loss under autocast may be from that in float32: scores are rounded to 8 bits, then
            divided by a temperature.
    """

    name: str
    make: Callable[[], Loss]
    slow: Callable[[Seen], Slow]
    num_views: int = 2
    model: Callable[[], nn.Module] = LinearModel
    batch: Optional[Callable[[int, int], Batch]] = None
    teacher: Callable[[Loss], list[nn.Module]] = no_teacher
    world_state: Optional[Callable[[Loss], Mapping[str, Tensor]]] = None
    memory_growth: float = 1.0
    time_growth: float = 1.0
    accumulates: bool = True
    single: bool = True
    bfloat16: float = 0.1

    def batch_of_step(self, step: int, images: int = IMAGES) -> Batch:
        """The world's batch in float64, the same in every call."""
        if self.batch is not None:
            return self.batch(step, images)
        generator = torch.Generator().manual_seed(3 + step)
        views = tuple(
            torch.randn(images, DIM, 1, 1, generator=generator, dtype=torch.float64) for _ in range(self.num_views)
        )
        index = torch.randperm(images, generator=generator)
        return Batch(views=views, index=index, label=torch.randint(0, 3, (images,), generator=generator))


class Training:
    """Optimizer steps of a model and a loss, on this rank's share of each batch; may be saved at any step."""

    def __init__(self, proof: Proof, *, dtype: torch.dtype = torch.float64) -> None:
        torch.manual_seed(5)
        self.proof, self.dtype = proof, dtype
        self.model = proof.model().to(dtype)
        self.loss = proof.make().to(dtype)
        self.loss.setup(as_model(self.model))
        self.loss = self.loss.to(dtype)
        learned = [p for p in (*self.model.parameters(), *self.loss.parameters()) if p.requires_grad]
        self.optimizer = torch.optim.SGD(learned, lr=0.05, momentum=0.9)
        self.started = False

    def start(self) -> None:
        self.loss.on_train_start(as_model(self.model), self._pass)
        self.started = True

    def _pass(self) -> Iterator[Batch]:
        yield share(self.proof.batch_of_step(0), self.dtype)

    def step(self, number: int, accumulated: int = 1) -> Tensor:
        """One step, in so many batches; the loss and all gradients are averaged over the ranks, as DDP does."""
        if not self.started:
            self.start()
        torch.manual_seed(number)
        model, moment = as_model(self.model), at(number)
        self.loss.on_epoch_start(model, moment)
        for recorder in (self.model, *self.proof.teacher(self.loss)):
            as_model(recorder).calls.clear()
        self.optimizer.zero_grad()
        batches = parts(self.proof.batch_of_step(number), accumulated, self.dtype)
        outputs = [self.loss.step(model, batch, moment) for batch in batches]
        for output in outputs:
            values = (*output.logs.values(), *output.carry.values())
            assert not any(value.requires_grad for value in values), "logs and carry must be detached"
            torch.autograd.backward(output.loss / accumulated)
        for parameter in (*self.model.parameters(), *self.loss.parameters()):
            if parameter.grad is not None:
                parameter.grad = distributed.all_reduce_mean(parameter.grad)
        self.optimizer.step()
        self.loss.update(model, [output.carry for output in outputs], moment)
        return distributed.all_reduce_mean(torch.stack([output.loss.detach() for output in outputs]).mean())

    def save(self) -> bytes:
        buffer = io.BytesIO()
        torch.save([self.model.state_dict(), self.loss.state_dict(), self.optimizer.state_dict()], buffer)
        return buffer.getvalue()

    def load(self, saved: bytes) -> None:
        model, loss, optimizer = torch.load(io.BytesIO(saved), weights_only=True)
        self.model.load_state_dict(model)
        self.loss.load_state_dict(loss)
        self.optimizer.load_state_dict(optimizer)

    def state(self) -> dict[str, Tensor]:
        """What must be the same in one process and on W ranks."""
        if self.proof.world_state is not None:
            return dict(self.proof.world_state(self.loss))
        return tensors(self.loss)


class Result(NamedTuple):
    """What a step left behind on this rank."""

    loss: Tensor
    gradients: list[Tensor]
    state: dict[str, Tensor]
    weights: list[Tensor]


def three_steps(proof: Proof, accumulated: int = 1) -> list[Result]:
    training = Training(proof)
    return [result(training, number, accumulated) for number in range(3)]


def result(training: Training, number: int, accumulated: int = 1) -> Result:
    value = training.step(number, accumulated)
    learned = [*training.model.parameters(), *training.loss.parameters()]
    gradients = [p.grad.clone() for p in learned if p.grad is not None]
    state = {name: tensor.clone() for name, tensor in training.state().items()}
    return Result(value, gradients, state, [p.detach().clone() for p in learned])


def tensors(loss: Loss) -> dict[str, Tensor]:
    return {name: value for name, value in loss.state_dict().items() if isinstance(value, Tensor)}


def at(step: int) -> Moment:
    """A step of a run of ten epochs of one step."""
    return Moment(step, STEPS, 1)


def share(batch: Batch, dtype: torch.dtype) -> Batch:
    """This rank's images of the world's batch."""
    return parts(batch, 1, dtype)[0]


def parts(batch: Batch, count: int, dtype: torch.dtype) -> list[Batch]:
    """This rank's images of the world's batch, in so many batches, as the sampler shares them out."""
    rank, world = distributed.rank(), distributed.world_size()

    def own(tensor: Tensor, part: int) -> Tensor:
        mine = tensor.chunk(world * count)[part * world + rank]
        return mine.to(dtype) if mine.is_floating_point() else mine

    return [
        Batch(
            views=tuple(own(view, part) for view in batch.views),
            index=own(batch.index, part),
            label=None if batch.label is None else own(batch.label, part),
            masks=tuple(None if mask is None else own(mask, part) for mask in batch.masks),
        )
        for part in range(count)
    ]


def as_model(module: nn.Module) -> LinearModel:
    """To the type checker every recording model is one."""
    assert hasattr(module, "calls")
    return module  # type: ignore[return-value]  # one of the recording models


def waves(*shape: int) -> Tensor:
    """Numbers in [-1, 1] without a pattern that a loss could be blind to."""
    count = torch.Size(shape).numel()
    return torch.arange(1, count + 1, dtype=torch.float64).mul(1.7).sin().reshape(shape)


def facts(outputs: Sequence[int] = (8,), **changes: object) -> Facts:
    """A run that every method can live with; `outputs` are the widths of those of the only head."""
    usual = Facts(
        world_size=1,
        ranks_per_node=1,
        batch_size=8,
        accumulation=1,
        num_views=2,
        crop_sizes=(8, 8),
        feature_dims={"flatten": 16},
        heads=(HEAD,),
        output_dims={HEAD: tuple(outputs)} if outputs else {},
        inputs={"images": 2},
        num_images=64,
        labelled=True,
        train_labelled=True,
        epochs=4,
    )
    return dataclasses.replace(usual, **changes)  # type: ignore[arg-type]  # by name
