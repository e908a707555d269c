"""SwAV whose codes are made by a momentum encoder, with a queue."""

from __future__ import annotations

from recipes.small.base import DIGITS, Dials
from recipes.small.swav import swav
from ssltyped import INFERRED, changed
from ssltyped.experiment import Experiment
from ssltyped.losses.swav import SwAVLossConf


def swav_momentum(dials: Dials = DIGITS) -> Experiment:
    """As recipes.small.swav_queue; the codes come from an average of the last ten steps or so."""
    return changed(swav(dials), lambda r: r.loss)(
        SwAVLossConf(
            epsilon=0.03,
            hard_assignment_epochs=dials.epochs,
            queue_size=INFERRED,
            queue_start_epochs=2,
            momentum=0.9,
        )
    )


recipe = swav_momentum()
