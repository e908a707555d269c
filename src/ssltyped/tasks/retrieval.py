"""Retrieval of the images of the same class by the features of a trunk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Optional

from annotated_types import Ge, Gt, Len, Lt

from ssltyped.config import INFERRED, config_for
from ssltyped.data.measured import TrainTestSet
from ssltyped.engine.parallel import Distributed, DistributedConf
from ssltyped.evals.extraction import Pooling
from ssltyped.evals.intervals import of_mean, wilson
from ssltyped.evals.same_class import class_retrieval
from ssltyped.tasks.labelled import OnLabelled
from ssltyped.tasks.measured import TrunkState
from ssltyped.tasks.report import Figure, Report


class RetrievalEval(OnLabelled):
    """How well the images of the same class are found by cosine: the test images are queries, the others the database.

    Measures map, the mean average precision, and recall@k, both in percent, for each feature
    (`evals.same_class.class_retrieval`).

    Args:
        cutoffs: the values of k.
    """

    def __init__(
        self,
        *,
        weights: Path,
        data: TrainTestSet,
        trunk: TrunkState = TrunkState.TRAINED,
        features: list[str] = INFERRED,
        pooling: Pooling = Pooling.MEAN,
        cutoffs: Annotated[list[Annotated[int, Gt(0)]], Len(1)] = [1, 5, 10],  # noqa: B006
        distributed: Distributed = DistributedConf(),
        seed: Annotated[int, Ge(0), Lt(2**63)] = 0,
        output: Path = Path("runs"),
        name: Optional[str] = None,
    ) -> None:
        self.weights, self.data, self.trunk, self.features, self.pooling = weights, data, trunk, features, pooling
        self.cutoffs, self.distributed, self.seed, self.output, self.name = cutoffs, distributed, seed, output, name

    def run(self, folder: Path) -> Mapping[str, float]:
        database, queries = self.sides(folder)
        mine = queries.of_rank()
        figures, metrics, count = list[Figure](), dict[str, float](), 0
        for feature in self.features:
            found = class_retrieval(
                database.rows(feature), database.labels, mine.rows(feature), mine.labels, cutoffs=self.cutoffs
            )
            count, setting = found.num_queries, {"feature": feature}
            figures.append(
                Figure("map", setting, found.mean_ap, of_mean(found.mean_ap, found.deviation, count, most=100.0))
            )
            for k, recall in found.recalls.items():
                figures.append(Figure(f"recall@{k}", setting, recall, wilson(recall, count)))
            values = {"map": found.mean_ap, **{f"recall@{k}": recall for k, recall in found.recalls.items()}}
            metrics |= {f"retrieval_{name}.{feature}": value for name, value in values.items()}
        about = {"database": len(database), "queries": count}
        Report(self.title("retrieval of the same class"), about, figures).write(folder, "retrieval")
        return metrics


RetrievalEvalConf = config_for(RetrievalEval)
