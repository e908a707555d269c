"""Features of all images of a set, on disk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Optional

from annotated_types import Ge, Lt

from ssltyped.config import INFERRED, config_for
from ssltyped.data.measured import ImageSet
from ssltyped.engine.parallel import Distributed, DistributedConf, say
from ssltyped.evals.extraction import Pooling
from ssltyped.tasks.measured import OfTrunk, TrunkState


class ExtractFeatures(OfTrunk):
    """Writes features of all images of a set: `ssltyped.evals.Features(FOLDER / "features")` opens them.

    Each image once, on any number of ranks; killed and started again, it goes on (`ssltyped.evals.extraction.extract`).
    Measured are `images`, the rows, and `unreadable`, the images that have none. The images need no labels.

    Args:
        data: the images.
    """

    def __init__(
        self,
        *,
        weights: Path,
        data: ImageSet,
        trunk: TrunkState = TrunkState.TRAINED,
        features: list[str] = INFERRED,
        pooling: Pooling = Pooling.MEAN,
        distributed: Distributed = DistributedConf(),
        seed: Annotated[int, Ge(0), Lt(2**63)] = 0,
        output: Path = Path("runs"),
        name: Optional[str] = None,
    ) -> None:
        self.weights, self.data, self.trunk, self.features, self.pooling = weights, data, trunk, features, pooling
        self.distributed, self.seed, self.output, self.name = distributed, seed, output, name

    def run(self, folder: Path) -> Mapping[str, float]:
        source = self.data.images()
        (found,) = self.extracted({folder / "features": source})
        for name in found.names:
            say(f"  {name}  {len(found):,} x {found.manifest.features[name]:,}")
        return {"images": float(len(found)), "unreadable": float(len(source) - len(found))}


ExtractFeaturesConf = config_for(ExtractFeatures)
