"""NPID++: Misra and van der Maaten 2020 (arXiv 1912.01991), section 3.2."""

from __future__ import annotations

from recipes.small.base import DIGITS, Dials, crops, projector, small
from ssltyped import INFERRED
from ssltyped.experiment import Experiment
from ssltyped.losses.npid import Contrast, MemoryBankLossConf


def npid_plus_plus(dials: Dials = DIGITS) -> Experiment:
    """A softmax in place of NCE, and more negatives."""
    return small(
        dials,
        loss=MemoryBankLossConf(num_negatives=INFERRED, contrast=Contrast.INFO_NCE, temperature=0.2),
        heads=projector(),
        views=crops(1, size=dials.image_size),
    )


recipe = npid_plus_plus()
