"""SwAV with a queue, for small batches: Caron et al. 2020 (arXiv 2006.09882), section 4.3."""

from __future__ import annotations

from recipes.small.base import DIGITS, Dials
from recipes.small.swav import swav
from ssltyped import INFERRED, changed
from ssltyped.experiment import Experiment
from ssltyped.losses.swav import SwAVLossConf


def swav_queue(dials: Dials = DIGITS) -> Experiment:
    """As recipes.small.swav; from the third epoch on a queue of a quarter of the images takes part in the codes."""
    return changed(swav(dials), lambda r: r.loss)(
        SwAVLossConf(epsilon=0.03, hard_assignment_epochs=dials.epochs, queue_size=INFERRED, queue_start_epochs=2)
    )


recipe = swav_queue()
