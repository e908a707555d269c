"""Features of images: `python -m ssltyped.run recipes.extract_features data.path=MY_IMAGES weights=RUN_OR_FILE`.

They are written as shards of .npy files below runs/extract_features/features, which
`ssltyped.evals.Features(Path("runs/extract_features/features"))["flatten"]` opens as one array, with the number, the
label and the path of each row's image in `.index`, `.label` and `.path`. Killed and started again, it goes on.
"""

from __future__ import annotations

from ssltyped.config import REQUIRED
from ssltyped.data.measured import ImageSetConf
from ssltyped.tasks.extract import ExtractFeaturesConf
from ssltyped.types import Task

recipe: Task = ExtractFeaturesConf(weights=REQUIRED, data=ImageSetConf())
