"""The vocabulary: dimension letters, the values that flow, and the base class of every kind of part.

Dimension letters, used in every shape of the project:

    B images a rank     N images in the world     V views       C channels     H W pixels
    D features          K classes or prototypes   T tokens      L layers

Data flows   index -> Image -> Views -> Batch -> Outputs -> StepOutput.
"""

from ssltyped.config.component import Component as Component
from ssltyped.config.component import Fact as Fact
from ssltyped.config.component import Facts as Facts
from ssltyped.config.component import Inference as Inference
from ssltyped.config.component import Problem as Problem
from ssltyped.config.component import Published as Published
from ssltyped.types.border import Promise as Promise
from ssltyped.types.border import check_batch as check_batch
from ssltyped.types.border import check_image as check_image
from ssltyped.types.labels import Label as Label
from ssltyped.types.labels import check_classes as check_classes
from ssltyped.types.labels import image_of as image_of
from ssltyped.types.labels import labels_of as labels_of
from ssltyped.types.names import as_named as as_named
from ssltyped.types.names import can_be_named as can_be_named
from ssltyped.types.names import named as named
from ssltyped.types.names import parameters_of as parameters_of
from ssltyped.types.parts import PATCH_SIZE as PATCH_SIZE
from ssltyped.types.parts import Collator as Collator
from ssltyped.types.parts import Head as Head
from ssltyped.types.parts import Loss as Loss
from ssltyped.types.parts import MaskedTrunk as MaskedTrunk
from ssltyped.types.parts import Meter as Meter
from ssltyped.types.parts import Model as Model
from ssltyped.types.parts import Optimizer as Optimizer
from ssltyped.types.parts import Scheduler as Scheduler
from ssltyped.types.parts import Source as Source
from ssltyped.types.parts import Transform as Transform
from ssltyped.types.parts import Trunk as Trunk
from ssltyped.types.parts import UnreadableImageError as UnreadableImageError
from ssltyped.types.parts import Update as Update
from ssltyped.types.parts import ViewMaker as ViewMaker
from ssltyped.types.sizes import fewer as fewer
from ssltyped.types.sizes import queue as queue
from ssltyped.types.task import Task as Task
from ssltyped.types.values import Batch as Batch
from ssltyped.types.values import Carry as Carry
from ssltyped.types.values import Features as Features
from ssltyped.types.values import Image as Image
from ssltyped.types.values import LossRange as LossRange
from ssltyped.types.values import Moment as Moment
from ssltyped.types.values import Outputs as Outputs
from ssltyped.types.values import Random as Random
from ssltyped.types.values import Signals as Signals
from ssltyped.types.values import StepOutput as StepOutput
from ssltyped.types.values import Target as Target
from ssltyped.types.values import Views as Views
from ssltyped.types.watching import QUIET as QUIET
from ssltyped.types.watching import Callback as Callback
from ssltyped.types.watching import RunStoppedError as RunStoppedError
from ssltyped.types.watching import Share as Share
from ssltyped.types.watching import Subset as Subset
from ssltyped.types.watching import TrainState as TrainState
from ssltyped.types.watching import loud as loud
from ssltyped.types.watching import metrics_text as metrics_text
