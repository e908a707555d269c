"""Linear accuracy of a trunk on labelled images."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Optional

from annotated_types import Ge, Gt, Len, Lt

from ssltyped.config import INFERRED, ConfigError, config_for
from ssltyped.data.measured import TrainTestSet
from ssltyped.engine.parallel import Distributed, DistributedConf, Place, device_for
from ssltyped.evals.extraction import Pooling
from ssltyped.evals.intervals import wilson
from ssltyped.evals.linear import Normalization, Samples, Setting, linear_accuracy
from ssltyped.tasks.labelled import OnLabelled, Side, num_classes_of
from ssltyped.tasks.measured import TrunkState
from ssltyped.tasks.report import Figure, Report
from ssltyped.types import Problem

HELD_OUT = "held out"
"""The salt of the hash that says which images decide."""


class LinearEval(OnLabelled):
    """Accuracy of linear classifiers on frozen features, all features and settings trained in the same passes.

    On the features as they are extracted, without augmentation (`evals.linear.linear_accuracy`). Which rate and decay
    count is decided on a share of the images that are learned from, never on those that are tested on. Measures top1,
    and top5 of more than five classes, in percent, for each feature. The grid is ours: rates and decays by threes and
    tens around what is usual for standardized features.

    Args:
        lrs: learning rates, for this batch_size.
        weight_decays: decays, each with each rate.
        epochs: passes over the images.
        batch_size: images a step, of all ranks together.
        normalization: standardize: by mean and deviation over the images; batch_norm: as VISSL's evaluation heads.
        held_out_share: the share of each class, of the images to learn from, that decides.
    """

    def __init__(
        self,
        *,
        weights: Path,
        data: TrainTestSet,
        trunk: TrunkState = TrunkState.TRAINED,
        features: list[str] = INFERRED,
        pooling: Pooling = Pooling.MEAN,
        lrs: Annotated[list[Annotated[float, Gt(0)]], Len(1)] = [0.003, 0.01, 0.03, 0.1, 0.3, 1.0],  # noqa: B006
        weight_decays: Annotated[list[Annotated[float, Ge(0)]], Len(1)] = [0.0, 1e-4, 1e-3, 1e-2],  # noqa: B006
        epochs: Annotated[int, Gt(0)] = 100,
        batch_size: Annotated[int, Gt(0)] = 256,
        normalization: Normalization = Normalization.STANDARDIZE,
        held_out_share: Annotated[float, Gt(0), Lt(1)] = 0.1,
        distributed: Distributed = DistributedConf(),
        seed: Annotated[int, Ge(0), Lt(2**63)] = 0,
        output: Path = Path("runs"),
        name: Optional[str] = None,
    ) -> None:
        self.weights, self.data, self.trunk, self.features, self.pooling = weights, data, trunk, features, pooling
        self.lrs, self.weight_decays, self.epochs, self.batch_size = lrs, weight_decays, epochs, batch_size
        self.normalization, self.held_out_share, self.distributed = normalization, held_out_share, distributed
        self.seed, self.output, self.name = seed, output, name

    def run(self, folder: Path) -> Mapping[str, float]:
        both, test = self.sides(folder)
        train, held_out = both.without(self.held_out_share, HELD_OUT)
        if not len(held_out):
            message = f"{self.held_out_share:g} of the images of each class leaves none to decide by: no class has two"
            raise ConfigError([Problem("held_out_share", message)])
        classes, place = num_classes_of(both, test), Place.from_environment()
        found = linear_accuracy(
            self._samples(train),
            self._samples(held_out),
            self._samples(test),
            num_classes=classes,
            settings=[Setting(*pair) for pair in itertools.product(self.lrs, self.weight_decays)],
            epochs=self.epochs,
            batch_size=self.batch_size,
            normalization=self.normalization,
            seed=self.seed,
            device=device_for(self.distributed.device, place.local_rank if place else 0),
        )
        figures, metrics = list[Figure](), dict[str, float]()
        for feature, result in found.items():
            chosen = {"feature": feature, **result.setting._asdict(), "held out": round(result.held_out, 2)}
            for name, value in result.accuracy.items():
                figures.append(Figure(name, chosen, value, wilson(value, len(test))))
                metrics[f"linear_{name}.{feature}"] = value
        about = {"images": len(train), "held out": len(held_out), "test images": len(test), "classes": classes}
        report = Report(self.title("linear accuracy"), {**about, "epochs": self.epochs}, figures)
        report.write(folder, "linear")
        return metrics

    def _samples(self, side: Side) -> Samples:
        return Samples({name: side.rows(name) for name in self.features}, side.labels)


LinearEvalConf = config_for(LinearEval)
