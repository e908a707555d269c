"""Is the representation getting better? A kNN evaluation of the frozen trunk while it trains."""

from collections.abc import Iterable
from typing import Annotated, Self

import torch
from annotated_types import Gt

from ssltyped import distributed
from ssltyped.config import INFERRED, MayBeInferred, config_for
from ssltyped.evals.knn import knn_accuracies
from ssltyped.evals.labelled import LabelledCallback
from ssltyped.types import Batch, Facts, Inference, Problem, Share, Subset, TrainState


class KNN(LabelledCallback):
    """Weighted k-nearest-neighbour accuracy of `data.val` among the images of `data.train`, on the frozen trunk.

    Both are read without augmentation, with the transforms of `data.val`. Logs `knn_top1` (and `knn_top5` for
    more than five classes), in percent. Wu et al. 2018 (arXiv 1805.01978), section 3.4. Where fewer than `k` images can
    be read all of them vote, and `knn_k` is logged, how many. Each rank keeps the features of the images that it reads.

    Args:
        every_epochs: evaluate after every so many epochs, and at the end; null: ten times in a run.
        k: neighbours that vote (200 in the paper, for ImageNet; at most the number of training images).
        temperature: T in the weight exp(cosine / T) of a vote (0.07 in the paper).
        at_start: evaluate before the first step too: what an untrained trunk gives, with BatchNorm statistics of some
            batches.
        enabled: whether it runs; null: where there are labels.
    """

    every_rank = True

    def __init__(
        self,
        *,
        every_epochs: Annotated[int, Gt(0)] = INFERRED,
        k: Annotated[int, Gt(0)] = 20,
        temperature: Annotated[float, Gt(0)] = 0.07,
        at_start: bool = False,
        enabled: Annotated[bool, MayBeInferred()] = True,
    ) -> None:
        super().__init__(enabled=enabled)
        self.every_epochs, self.k, self.temperature, self.at_start = every_epochs, k, temperature, at_start

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        yield from super().infer(config, facts)
        if facts.epochs is not None:
            rule = f"a tenth of {facts.epochs} epochs"
            yield Inference("every_epochs", max(1, facts.epochs // 10), rule, default=True)

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().problems(config, facts)
        if not config.enabled:
            return
        if facts.label_rows:
            yield Problem("", "needs one class an image, and the labels of data.train are rows of them: remove this")
        if facts.num_images is not None and config.k > facts.num_images:
            yield Problem("k", f"got {config.k}: data.train has only {facts.num_images} images")

    def on_step_start(self, state: TrainState, batch: Batch) -> None:  # all callbacks have started by then
        if self.at_start and state.step == 0:
            self._evaluate(state)

    def on_epoch_end(self, state: TrainState) -> None:
        if state.step == state.steps or state.epoch % self.every_epochs == 0:
            self._evaluate(state)

    def _evaluate(self, state: TrainState) -> None:
        """Each rank compares the queries of all with the images that it has read: no rank holds those of others."""
        bank, bank_labels = state.features(Subset.TRAIN, Share.OWN)
        queries, query_labels = state.features(Subset.VAL, Share.OWN)
        highest = max((int(labels.max()) for labels in (bank_labels, query_labels) if len(labels)), default=-1)
        num_classes = 1 + int(distributed.all_reduce_max(torch.tensor(highest)))
        k = min(self.k, int(distributed.all_reduce_sum(torch.tensor(len(bank)))))
        result = knn_accuracies(
            bank,
            bank_labels,
            queries,
            query_labels,
            ks=[k],
            temperature=self.temperature,
            num_classes=num_classes,
            share=Share.OWN,
        )[k]
        fewer = {} if k == self.k else {"knn_k": float(k)}
        state.log({f"knn_{name}": value for name, value in result.items() if name == "top1" or num_classes > 5} | fewer)


KNNConf = config_for(KNN)
