"""kNN accuracy of a trunk: `python -m ssltyped.run recipes.evals.knn data.path=LABELLED weights=RUN_OR_FILE`.

LABELLED is a folder of class folders, or a list file with labels; a fifth of it is held out to test on, unless
`data.test_path` gives other images. Prints a table, and writes it as knn.json and knn.png.
"""

from __future__ import annotations

from ssltyped.config import REQUIRED
from ssltyped.data.measured import TrainTestSetConf
from ssltyped.tasks.knn import KNNEvalConf
from ssltyped.types import Task

recipe: Task = KNNEvalConf(weights=REQUIRED, data=TrainTestSetConf())
