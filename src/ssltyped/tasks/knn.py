"""kNN accuracy of a trunk on labelled images."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Optional, Self

from annotated_types import Ge, Gt, Len, Lt

from ssltyped.config import INFERRED, config_for
from ssltyped.config.component import AnyConfig
from ssltyped.data.measured import TrainTestSet
from ssltyped.engine.parallel import Distributed, DistributedConf
from ssltyped.evals.extraction import Pooling
from ssltyped.evals.intervals import wilson
from ssltyped.evals.knn import knn_accuracies
from ssltyped.tasks.labelled import OnLabelled, num_classes_of
from ssltyped.tasks.measured import TrunkState
from ssltyped.tasks.report import Figure, Report
from ssltyped.types import Facts, Inference, Problem

USUAL = (10, 20, 100, 200)


class KNNEval(OnLabelled):
    """Weighted kNN accuracy of the test images among the others, on L2-normalized features (`evals.knn.knn_predict`).

    Over the ranks and in blocks of bounded memory. Measures top1, and top5 of more than five classes, in percent, for
    each feature and each k. Wu et al. 2018 (arXiv 1805.01978), section 3.4.

    Args:
        ks: numbers of neighbours that vote; null: those of 10, 20, 100 and 200 (DINO's evaluation, Caron et al. 2021)
            that are at most a fifth of the images, or 1.
        temperature: T in the weight exp(cosine / T) of a vote (0.07 in the paper).
    """

    def __init__(
        self,
        *,
        weights: Path,
        data: TrainTestSet,
        trunk: TrunkState = TrunkState.TRAINED,
        features: list[str] = INFERRED,
        pooling: Pooling = Pooling.MEAN,
        ks: Annotated[list[Annotated[int, Gt(0)]], Len(1)] = INFERRED,
        temperature: Annotated[float, Gt(0)] = 0.07,
        distributed: Distributed = DistributedConf(),
        seed: Annotated[int, Ge(0), Lt(2**63)] = 0,
        output: Path = Path("runs"),
        name: Optional[str] = None,
    ) -> None:
        self.weights, self.data, self.trunk, self.features, self.pooling = weights, data, trunk, features, pooling
        self.ks, self.temperature, self.distributed, self.seed = ks, temperature, distributed, seed
        self.output, self.name = output, name

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        yield from super().infer(config, facts)
        if facts.num_images is not None:
            fitting = [k for k in USUAL if 5 * k <= facts.num_images] or [1]
            yield Inference("ks", fitting, f"at most a fifth of {facts.num_images} images", default=True)

    @classmethod
    def problems(cls, config: AnyConfig, facts: Facts) -> Iterable[Problem]:
        yield from super().problems(config, facts)
        for place, k in enumerate(config.ks or []):
            if facts.num_images is not None and k > facts.num_images:
                yield Problem(f"ks.{place}", f"got {k}: there are only {facts.num_images} images")

    def run(self, folder: Path) -> Mapping[str, float]:
        train, test = self.sides(folder)
        classes, ks = num_classes_of(train, test), [min(k, len(train)) for k in self.ks]
        bank, queries = train.of_rank(), test.of_rank()
        figures, metrics = list[Figure](), dict[str, float]()
        for feature in self.features:
            found = knn_accuracies(
                bank.rows(feature),
                bank.labels,
                queries.rows(feature),
                queries.labels,
                ks=ks,
                temperature=self.temperature,
                num_classes=classes,
            )
            for k, accuracy in found.items():
                for name in ("top1", "top5")[: 2 if classes > 5 else 1]:
                    value = accuracy[name]
                    figures.append(Figure(name, {"feature": feature, "k": k}, value, wilson(value, len(test))))
                    metrics[f"knn_{name}.{feature}.k{k}"] = value
        about = {"images": len(train), "test images": len(test), "classes": classes, "temperature": self.temperature}
        Report(self.title("kNN accuracy"), about, figures).write(folder, "knn")
        return metrics


KNNEvalConf = config_for(KNNEval)
