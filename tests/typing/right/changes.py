"""Recipes made from other recipes by the typed copy."""

from pathlib import Path

from recipes.quickstart import quickstart
from recipes.simclr import simclr
from ssltyped import INFERRED, Experiment, changed, part
from ssltyped.data.digits import DigitsConf, DigitSplit
from ssltyped.data.splits import EvalSplit, EvalSplitConf
from ssltyped.engine.parallel import Precision
from ssltyped.evals.online_knn import KNN, KNNConf
from ssltyped.losses.moco import MoCoLossConf
from ssltyped.losses.simclr import SimCLRLoss, SimCLRLossConf
from ssltyped.optimizers.rate import RateConf
from ssltyped.optimizers.torch_optim import AdamWConf
from ssltyped.schedulers.composite import Composite
from ssltyped.schedulers.cosine import CosineConf
from ssltyped.transforms.geometry import CenterCropConf, RandomResizedCrop
from ssltyped.transforms.views import RepeatViews
from ssltyped.trunks.resnet import ResNet, ResNetConf
from ssltyped.types import Callback

recipe: Experiment = quickstart()

# a value of the recipe's own
longer: Experiment = changed(recipe, lambda r: r.epochs)(800)
by_steps: Experiment = changed(changed(recipe, lambda r: r.epochs)(None), lambda r: r.steps)(3)
half = changed(recipe, lambda r: r.precision)(Precision.BF16)
elsewhere = changed(recipe, lambda r: r.output)(Path("elsewhere"))

# a part in the place of another
moco: Experiment = changed(recipe, lambda r: r.loss)(MoCoLossConf(queue_size=1000))
adamw = changed(recipe, lambda r: r.optimizer)(AdamWConf(rate=RateConf(lr=1e-3)))
deeper = changed(recipe, lambda r: r.trunk)(ResNetConf(depth=50))
plain = changed(recipe, lambda r: r.schedule)(CosineConf())
unwatched = changed(recipe, lambda r: r.callbacks)([])
more: list[Callback] = [*recipe.callbacks, KNNConf(k=50)]
watched = changed(recipe, lambda r: r.callbacks)(more)

# below, where the declared types say enough
small_batch = changed(recipe, lambda r: r.data.train.batch_size)(50)
more_ranks = changed(recipe, lambda r: r.distributed.num_procs)(2)
grey = changed(recipe, lambda r: r.data.mean)((0.4, 0.4, 0.4))
other_views = changed(recipe, lambda r: r.data.train.views)(recipe.data.train.views)
evaluated = changed(recipe, lambda r: r.data.val)(EvalSplitConf(transforms=[CenterCropConf(size=32)]))

# and where they do not
warm: Experiment = changed(recipe, lambda r: part(r.loss, SimCLRLoss).temperature)(0.5)
warmer: Experiment = changed(recipe, lambda r: part(r.loss, SimCLRLossConf).temperature)(1)
wide: Experiment = changed(recipe, lambda r: part(r.trunk, ResNet).width_multiplier)(0.25)
by_k = changed(recipe, lambda r: part(r.callbacks[-1], KNN).k)(50)
tested = changed(recipe, lambda r: part(r.data.val, EvalSplit).source)(DigitsConf(split=DigitSplit.TEST))
warmup = changed(recipe, lambda r: part(r.schedule, Composite).lengths)([0.2, 0.8])
cropped = changed(recipe, lambda r: part(part(r.data.train.views, RepeatViews).transforms[0], RandomResizedCrop).scale)(
    (0.5, 1.0)
)
temperature: float = part(recipe.loss, SimCLRLoss).temperature
sized = changed(recipe, lambda r: r.global_batch_size)(INFERRED)


def longest(*, epochs: int = 1000, temperature: float = 0.1) -> Experiment:
    """A variant that changes two fields of another recipe."""
    long = changed(simclr(nodes=8), lambda r: r.epochs)(epochs)
    return changed(long, lambda r: part(r.loss, SimCLRLoss).temperature)(temperature)


long = longest()
sharp = longest(temperature=0.05)

# any part can be changed so
loss: SimCLRLoss = changed(SimCLRLossConf(), lambda own: own.temperature)(0.2)
