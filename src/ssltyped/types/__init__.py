"""The vocabulary: dimension letters, the values that flow, and the base class of every kind of part.

Dimension letters, used in every shape of the project:

    B images a rank     N images in the world     V views       C channels     H W pixels
    D features          K classes or prototypes   T tokens      L layers

Data flows   index -> Image -> Views -> Batch -> Outputs -> StepOutput.
"""

from ssltyped.config.component import Component, Fact, Facts, Inference, Problem, Published
from ssltyped.types.names import as_named, named, parameters_of
from ssltyped.types.parts import (
    Collator,
    Head,
    Loss,
    MaskedTrunk,
    Meter,
    Model,
    Optimizer,
    Scheduler,
    Source,
    Transform,
    Trunk,
    UnreadableImageError,
    Update,
    ViewMaker,
    heads_of,
)
from ssltyped.types.values import Batch, Carry, Features, Image, Moment, Outputs, Random, StepOutput, Target, Views
from ssltyped.types.watching import Callback, Subset, TrainState

__all__ = [
    "Batch",
    "Callback",
    "Carry",
    "Collator",
    "Component",
    "Fact",
    "Facts",
    "Features",
    "Head",
    "Image",
    "Inference",
    "Loss",
    "MaskedTrunk",
    "Meter",
    "Model",
    "Moment",
    "Optimizer",
    "Outputs",
    "Problem",
    "Published",
    "Random",
    "Scheduler",
    "Source",
    "StepOutput",
    "Subset",
    "Target",
    "TrainState",
    "Transform",
    "Trunk",
    "UnreadableImageError",
    "Update",
    "ViewMaker",
    "Views",
    "as_named",
    "heads_of",
    "named",
    "parameters_of",
]
