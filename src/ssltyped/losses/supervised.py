"""Losses of labels, also those of pretext tasks: one target, one or several outputs; and any loss of `torch.nn`."""

import inspect
import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Annotated, Optional, Self

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Lt
from jaxtyping import Float
from torch import Tensor, nn

from ssltyped import distributed
from ssltyped.config import INFERRED, config_for, refuse
from ssltyped.config.hints import nearest
from ssltyped.losses.outputs import all_outputs, softmax_range
from ssltyped.meters.hits import hits
from ssltyped.types import Batch, Facts, Loss, LossRange, Model, Moment, Problem, StepOutput, Target


class SupervisedLoss(Loss):
    """loss = sum over outputs of the heads of  the loss of that output; views of an image share its label."""

    heads: list[str]
    uses_labels = True
    outputs = None

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().problems(config, facts)
        yield from needs_labels(facts)

    @abstractmethod
    def of_output(self, output: Tensor, label: Target) -> Float[Tensor, ""]:
        """The loss of one output (rows by view)."""

    def logs(self, output: Tensor, label: Target) -> dict[str, Tensor]:
        """What is logged of the first output."""
        return {}

    @abstractmethod
    def range_of(self, output: Tensor, label: Target) -> LossRange:
        """What the loss of one output can be."""

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        label = labels_of(batch)
        found = all_outputs(model(batch.views, heads=self.heads), self.heads)
        losses = [self.of_output(output, label) for output in found]
        ranges = [self.range_of(output, label) for output in found]
        expected = sum(ranges[1:], ranges[0])
        return StepOutput(loss=torch.stack(losses).sum(), logs=self.logs(found[0], label), expected=expected)


class CrossEntropyLoss(SupervisedLoss):
    """Classification of images, of rotations (RotNet), of permutations (jigsaw) or of clusters (ClusterFit).

    Every output of the heads is a set of logits x (B, K), or (B, S, K) for S predictions an image; with class y,

        loss = sum over outputs of  mean_n  - w_y log softmax_k(x(n) / T) at k = y

    (a weighted mean when `class_weights` are given, over all images of the world). A target may also be a distribution
    t (B, K), from mixed images: then mean_n - sum_k w_k t_k log softmax_k(x / T). Label smoothing replaces y by
    (1 - smoothing) one-hot + smoothing / K (Szegedy et al. 2016, arXiv 1512.00567, section 7). Images with the label
    `ignore_label` count nothing; of accumulated batches each has the mean of its own. Several views of an image share
    its label. Memory and time grow as B K. Logs `top1` of the first output: the percent of the images of the world with
    a label whose class has the highest score (`ssltyped.meters.hits`), nan if there are none.

    RotNet: Gidaris et al. 2018, arXiv 1803.07728. Jigsaw: Noroozi and Favaro 2016, arXiv 1603.09246.

    Raises:
        ValueError: a batch without labels, a label that is no class (seen on the CPU only), or rows of 1, 0 and -1.

    Args:
        temperature: T.
        label_smoothing: share of the target that is spread over all classes.
        ignore_label: images with this label are left out.
        class_weights: w, one a class; null: all 1.
        normalize: scale logits to length 1 before the temperature.
    """

    def __init__(
        self,
        *,
        heads: list[str] = INFERRED,
        temperature: Annotated[float, Gt(0)] = 1.0,
        label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0,
        ignore_label: int = -1,
        class_weights: Optional[list[Annotated[float, Ge(0)]]] = None,
        normalize: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.temperature = list(heads), temperature
        self.label_smoothing, self.ignore_label = label_smoothing, ignore_label
        self.class_weights, self.normalize = class_weights, normalize
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("_weights", weights, persistent=False)

    _weights: Optional[Tensor]

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().problems(config, facts)
        if config.class_weights is not None and facts.accumulation > 1:
            yield Problem("class_weights", "accumulated batches would each divide by their own weights: accumulation=1")
        for head in config.heads or []:
            for width in facts.widths(head):
                if config.class_weights is not None and width != len(config.class_weights):
                    yield Problem("class_weights", f"has {len(config.class_weights)} values; {head} is {width} wide")
                if facts.num_classes is not None and width < facts.num_classes:
                    yield Problem("heads", f"the views make {facts.num_classes} classes; {head} is {width} wide")
                elif facts.num_classes is None and facts.num_labels is not None and width < facts.num_labels:
                    yield Problem("heads", f"the labels are of {facts.num_labels} classes; {head} is {width} wide")

    @classmethod
    def warnings(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().warnings(config, facts)
        classes = facts.num_labels if facts.num_classes is None else facts.num_classes
        for head in config.heads or []:
            for width in facts.widths(head):
                if classes is not None and width > classes:
                    yield Problem("heads", f"{head} is {width} wide, and the labels are of {classes} classes")

    def of_output(self, output: Tensor, label: Target) -> Float[Tensor, ""]:
        logits, target = per_prediction(output, label)
        if self.normalize:
            logits = F.normalize(logits, dim=1)
        log_p = F.log_softmax(logits / self.temperature, dim=1)
        if target.ndim == 1:
            return self._of_classes(log_p, target)
        if not target.is_floating_point():
            raise ValueError("cross entropy needs a class or shares an image; these are rows of 1, 0, -1: use BCELoss")
        shares = torch.lerp(target.to(log_p.dtype), torch.full_like(log_p, 1 / log_p.shape[1]), self.label_smoothing)
        weighted = shares if self._weights is None else shares * self._weights.to(log_p.dtype)
        return -(weighted * log_p).sum(dim=1).mean()

    def range_of(self, output: Tensor, label: Target) -> LossRange:
        weighted_shares = label.ndim > 1 and self.class_weights is not None
        return LossRange() if weighted_shares else softmax_range(output.shape[-1])

    def _of_classes(self, log_p: Float[Tensor, "B K"], target: Tensor) -> Float[Tensor, ""]:
        counts = target != self.ignore_label
        known = torch.where(counts, target, 0)
        if known.device.type == "cpu" and len(known) and int(known.max()) >= log_p.shape[1]:
            raise ValueError(f"an image has the label {int(known.max())}, and an output has {log_p.shape[1]} classes")
        weight = counts.to(log_p.dtype)
        if self._weights is not None:
            weight = weight * self._weights.to(log_p.dtype)[known]
        nll = -log_p.gather(1, known[:, None])[:, 0]
        if self.label_smoothing:
            nll = torch.lerp(nll, -log_p.mean(dim=1), self.label_smoothing)
        total = distributed.all_reduce_mean(weight.sum())
        return (nll * weight).sum() / total.clamp(min=1e-12)

    def logs(self, output: Tensor, label: Target) -> dict[str, Tensor]:
        if label.ndim > 1:
            return {}
        logits, target = per_prediction(output.detach(), label)
        counts = target != self.ignore_label
        right = hits(logits, target, 1)[:, 0] & counts
        found, of = distributed.all_reduce_sum(torch.stack([right.sum(), counts.sum()]))
        return {"top1": 100 * found / of}


class BCELoss(SupervisedLoss):
    """Classification into several classes at once: binary cross entropy with targets 1, 0 and -1 (unknown).

    For every output x (B, K) of the heads and targets t (B, K), with N_k the number of images of the world whose t_k
    is known,

        loss = sum over outputs, sum_k  1 / max(1, N_k)  sum_{n: t_k(n) known}  bce(sigmoid(x_k(n)), t_k(n))

    Accumulated batches count their own N_k. Memory and time grow as B K.

    Raises:
        ValueError: a batch without a row of targets for each image.

    Args:
        normalize: scale logits to length 1.
    """

    def __init__(self, *, heads: list[str] = INFERRED, normalize: bool = False) -> None:
        super().__init__()
        self.heads, self.normalize = list(heads), normalize

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().problems(config, facts)
        for head in config.heads or []:
            for width in facts.widths(head):
                known = facts.num_labels
                if known is not None and (width < known or (facts.label_rows and width != known)):
                    yield Problem("heads", f"the labels are of {facts.num_labels} classes; {head} is {width} wide")

    def of_output(self, output: Tensor, label: Target) -> Float[Tensor, ""]:
        if label.ndim != 2:
            message = "BCELoss needs a row of targets for each image: the labels are classes; add OneHot to collators"
            raise ValueError(message)
        logits, target = per_prediction(output, label)
        if self.normalize:
            logits = F.normalize(logits, dim=1)
        known = target != -1
        wanted = target.to(logits.dtype).clamp(min=0)
        each = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * known
        count = distributed.all_reduce_sum(known.sum(dim=0)).clamp(min=1) / distributed.world_size()
        return (each.sum(dim=0) / count).sum()

    def range_of(self, output: Tensor, label: Target) -> LossRange:
        return LossRange(uniform=output.shape[-1] * math.log(2))


def needs_labels(facts: Facts) -> Iterable[Problem]:
    """The problem of a supervised loss whose images have no label."""
    if facts.train_labelled is False:
        none = f"the images to train on have none{facts.why_unlabelled}"
        yield Problem("", f"needs labels, and {none}: use a folder of class folders")


def labels_of(batch: Batch) -> Target:
    """The labels. Raises ValueError if there are none."""
    if batch.label is None:
        raise ValueError("the batch has no labels: the images to train on have none")
    return batch.label


def per_prediction(output: Tensor, label: Target) -> tuple[Tensor, Tensor]:
    """Logits (R, K) and as many targets: views and predictions of an image share its label."""
    rows = output.reshape(-1, output.shape[-1])
    within = len(rows) // len(output)
    target = label.repeat(len(output) // len(label), *[1] * (label.ndim - 1)).repeat_interleave(within, dim=0)
    return rows, target


def _compares_two(kind: type[nn.Module]) -> bool:
    """Whether a loss is made without arguments, and computed from an output and a label alone."""
    made = list(inspect.signature(kind).parameters.values())
    needed = [one for one in made if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]
    return not needed and len(inspect.signature(kind.forward).parameters) == len(("self", "input", "target"))


KNOWN: Mapping[str, type[nn.Module]] = {
    name: kind
    for name, kind in vars(nn.modules.loss).items()
    if isinstance(kind, type) and issubclass(kind, nn.modules.loss._Loss) and not name.startswith("_")
    if _compares_two(kind)
}
"""The losses of `torch.nn.modules.loss` of an output and a label; not those of three tensors (TripletMarginLoss)."""


class TorchLoss(SupervisedLoss):
    """loss = sum over outputs of  torch.nn.<name>(**args)(output, label), averaged as that loss does.

    The label of an image counts for each of its views. Memory and time grow as those of the loss of torch;
    for losses that average over the batch, W ranks give the loss of one process.

    Raises:
        ValueError: an unknown name, an argument that the loss does not take, or a batch without labels.

    Args:
        name: a class of `torch.nn.modules.loss` that compares two tensors, such as SmoothL1Loss.
        args: its arguments.
    """

    def __init__(
        self,
        *,
        heads: list[str] = INFERRED,
        name: str,
        args: dict[str, float | int | bool | str] = {},  # noqa: B006  # never changed
    ) -> None:
        super().__init__()
        self.heads, self.name, self.args = list(heads), name, dict(args)
        refuse(_faults(name, self.args))
        self.loss = KNOWN[name](**self.args)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().problems(config, facts)
        yield from _faults(config.name, config.args)

    def of_output(self, output: Tensor, label: Target) -> Tensor:
        loss: Tensor = self.loss(output, label.repeat(len(output) // len(label), *[1] * (label.ndim - 1)))
        return loss

    def range_of(self, output: Tensor, label: Target) -> LossRange:
        return LossRange(lowest=-math.inf)  # any loss of torch's


def _faults(name: str, args: Mapping[str, object]) -> list[Problem]:
    if name not in KNOWN:
        return [Problem("name", f"torch.nn has no loss {name!r} of an output and a label{nearest(name, list(KNOWN))}")]
    known = list(inspect.signature(KNOWN[name]).parameters)
    return [Problem(f"args.{key}", f"{name} takes no {key!r}{nearest(key, known)}") for key in args if key not in known]


CrossEntropyLossConf = config_for(CrossEntropyLoss)
BCELossConf = config_for(BCELoss)
TorchLossConf = config_for(TorchLoss)
