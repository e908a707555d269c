"""Is the representation getting better? A linear classifier of it that learns beside the method."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Optional, Self

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ssltyped import distributed
from ssltyped.config import INFERRED, MayBeInferred, config_for
from ssltyped.distributed.sync_batch_norm import convert_sync_batchnorm
from ssltyped.evals.labelled import LabelledCallback
from ssltyped.losses.supervised import labels_of
from ssltyped.meters.representation import pooled
from ssltyped.types import Batch, Facts, Inference, Problem, StepOutput, Subset, TrainState

if TYPE_CHECKING:  # heavy, and only a run with a probe needs it
    from torchmetrics.classification import MulticlassAccuracy

BASE_LR, MOMENTUM = 0.1, 0.9


class LinearProbe(LabelledCallback):
    """A linear classifier of the features that each training step computes anyway; the trunk gets no gradient of it.

        y = W BN(x) + b        W, b from 0 by SGD with momentum 0.9 on the cross entropy of y and the label

    x (B, D) is `feature` of view 0 of each image, as the student gives it in training mode, averaged over pixels or
    tokens. BN, without gain and bias, makes one learning rate fit features of any scale (He et al. 2022, MAE, arXiv
    2111.06377, appendix A.1). Over W ranks it is the probe of one process. Logs `probe_top1`, in percent, at the end of
    an epoch: of its training images, each predicted before the probe has learned from it. Where `every_epochs` is not
    0 it logs `probe_val_top1` too, of `data.val` without augmentation, unless the method is for a teacher, whose
    features the probe has not seen.

    Raises:
        ValueError: a batch without labels, or with shares of several classes (mixed images).

    Args:
        enabled: null: where there are labels.
        feature: the trunk's feature that is read.
        num_classes: K; null: that of the labels.
        lr: constant; 0.1 x images a step / 256 (MAE, table 10).
        every_epochs: evaluate on data.val after every so many epochs, and at the end; 0: never.
    """

    every_rank = True
    needs_val = False

    def __init__(
        self,
        *,
        enabled: Annotated[bool, MayBeInferred()] = True,
        feature: str = INFERRED,
        num_classes: Optional[Annotated[int, Gt(1)]] = None,
        lr: Annotated[float, Gt(0)] = INFERRED,
        every_epochs: Annotated[int, Ge(0)] = INFERRED,
    ) -> None:
        super().__init__(enabled=enabled)
        self.feature, self.num_classes, self.lr = feature, num_classes, lr
        self.every_epochs, self.reads = every_epochs, (feature,) if enabled else ()
        self._probe: Optional[Probe] = None
        self._kept: Mapping[str, object] = {}

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        yield from super().infer(config, facts)
        yield Inference("feature", last := list(facts.feature_dims)[-1], "the trunk's last feature", default=True)
        if facts.num_labels is not None:
            yield Inference("num_classes", facts.num_labels, "classes of the labels", default=True)
        rule = f"{BASE_LR} x ({facts.global_batch_size} images a step / 256)"
        yield Inference("lr", BASE_LR * facts.global_batch_size / 256, rule, default=True)
        if not facts.evaluates or facts.labelled is False:
            yield Inference("every_epochs", 0, "there is no data.val with labels", default=True)
        elif config.feature not in (None, last):
            yield Inference("every_epochs", 0, f"an evaluation reads {last}", default=True)
        elif facts.epochs is not None and (facts.labelled or facts.num_images is not None):  # the images are known
            rule = f"a tenth of {facts.epochs} epochs"
            yield Inference("every_epochs", max(1, facts.epochs // 10), rule, default=True)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if not config.enabled or cls.hindrance(facts):
            yield from super().problems(config, facts)
            return
        if config.num_classes is None:
            yield Problem("num_classes", "how many classes there are is not known here: give it")
        elif facts.num_labels is not None and config.num_classes < facts.num_labels:
            yield Problem("num_classes", f"got {config.num_classes}: the labels are of {facts.num_labels} classes")
        if config.every_epochs and (not facts.evaluates or facts.labelled is False):
            yield Problem("every_epochs", f"got {config.every_epochs}, and there is no data.val with labels: set 0")
        elif config.every_epochs and config.feature != (last := list(facts.feature_dims)[-1]):
            message = f"got {config.every_epochs}, and an evaluation reads {last}, not {config.feature}"
            yield Problem("every_epochs", f"{message}: set 0, or feature={last}")

    @classmethod
    def hindrance(cls, facts: Facts) -> str:
        if facts.pretext:
            return "those of data.train are the classes of a pretext task"
        return super().hindrance(facts) or ("those of data.train are rows of them" if facts.label_rows else "")

    def on_loss(self, state: TrainState, batch: Batch, output: StepOutput) -> None:
        label = labels_of(batch)
        if label.ndim > 1:
            raise ValueError("LinearProbe needs a class an image; these labels are rows, as of mixed images: remove it")
        (name,) = self.reads
        x = pooled(output.features[name])[: len(label)].float()  # those of view 0
        if self._probe is None:
            assert self.num_classes is not None
            self._probe = Probe(x.shape[1], self.num_classes, self.lr, x.device)
            self._probe.load_state_dict(self._kept)
        self._probe.learn(x, label)

    def on_epoch_end(self, state: TrainState) -> None:
        if self._probe is None:
            return
        state.log({"probe_top1": self._probe.accuracy()})
        due = self.every_epochs and (state.step == state.steps or state.epoch % self.every_epochs == 0)
        if due and state.model is state.student:
            features, label = state.features(Subset.VAL)
            state.log({"probe_val_top1": self._probe.accuracy_on(features[label >= 0], label[label >= 0])})

    def state_dict(self) -> Mapping[str, object]:
        return self._kept if self._probe is None else self._probe.state_dict()

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        self._kept = state


class Probe:
    """The classifier, its optimizer, and what it has got right since `accuracy` was asked for."""

    def __init__(self, width: int, num_classes: int, lr: float, device: torch.device) -> None:
        self._linear = nn.Linear(width, num_classes, device=device)
        for parameter in self._linear.parameters():
            nn.init.zeros_(parameter)
        norm = nn.Sequential(nn.BatchNorm1d(width, affine=False, device=device))
        self._norm = convert_sync_batchnorm(norm, distributed.world_size())
        self._optimizer = torch.optim.SGD(self._linear.parameters(), lr=lr, momentum=MOMENTUM)
        self._right = _meter(num_classes).to(device)

    def learn(self, x: Float[Tensor, "B D"], label: Int64[Tensor, "B"]) -> None:
        """Predict the batch, then take a step on the batches of all ranks."""
        scores = self._linear(self._norm(x))
        self._right.update(scores.detach(), label)
        parameters = list(self._linear.parameters())
        gradients = torch.autograd.grad(F.cross_entropy(scores, label), parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = distributed.all_reduce_mean(gradient)
        self._optimizer.step()

    def accuracy(self) -> float:
        """Percent of the images since the last time that were predicted right, over all ranks (collective)."""
        share = self._right.compute()
        self._right.reset()
        return 100 * float(share)

    @torch.no_grad()
    def accuracy_on(self, x: Float[Tensor, "N D"], label: Int64[Tensor, "N"]) -> float:
        """Percent of these images, with the statistics of all batches so far."""
        self._norm.eval()
        scores = self._linear(self._norm(x))
        self._norm.train()
        return 100 * float(_meter(scores.shape[1]).to(x.device)(scores, label))

    def state_dict(self) -> dict[str, object]:
        """For a checkpoint, of this rank."""
        kept = {name: getattr(self, f"_{name}").state_dict() for name in ("linear", "norm", "optimizer", "right")}
        return kept

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take over what `state_dict` gave; of nothing, nothing."""
        for name, kept in state.items():
            getattr(self, f"_{name}").load_state_dict(kept)
        self._right.to(self._linear.weight.device)  # torchmetrics takes counts where the checkpoint has them: the host


def _meter(num_classes: int) -> "MulticlassAccuracy":
    from torchmetrics.classification import MulticlassAccuracy

    meter = MulticlassAccuracy(num_classes, average="micro")
    meter.persistent(True)
    return meter


LinearProbeConf = config_for(LinearProbe)
