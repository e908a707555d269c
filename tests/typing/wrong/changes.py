"""The typed copy of a recipe: a wrong name, a wrong type, a wrong kind of part."""

from recipes.quickstart import quickstart
from ssltyped import Experiment, changed, part
from ssltyped.evals.online_knn import KNN, KNNConf
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.losses.moco import MoCoLoss, MoCoLossConf
from ssltyped.losses.simclr import SimCLRLoss, SimCLRLossConf
from ssltyped.optimizers.rate import RateConf
from ssltyped.optimizers.torch_optim import AdamWConf
from ssltyped.schedulers.cosine import CosineConf
from ssltyped.trunks.resnet import ResNet, ResNetConf
from ssltyped.types import Loss

recipe = quickstart()

# a field that there is not
changed(recipe, lambda r: r.epoch)(800)  # E: attr-defined
changed(recipe, lambda r: r.losses)(MoCoLossConf())  # E: attr-defined
changed(recipe, lambda r: r.data.training.batch_size)(50)  # E: attr-defined
changed(recipe, lambda r: r.data.train.batchsize)(50)  # E: attr-defined
changed(recipe, lambda r: r.optimizer.learning_rate)(0.1)  # E: attr-defined
changed(recipe, lambda r: part(r.callbacks[0], KNN).neighbours)(50)  # E: attr-defined
changed(recipe, lambda r: part(r.loss, SimCLRLoss).temprature)(0.2)  # E: arg-type
changed(recipe, lambda r: part(r.trunk, ResNet).layers)(50)  # E: arg-type
changed(SimCLRLossConf(), lambda own: own.temprature)(0.2)  # E: arg-type

# one of a part of the declared kind, which not every part of that kind has
changed(recipe, lambda r: r.loss.temperature)(0.2)  # E: arg-type
changed(recipe, lambda r: r.trunk.depth)(50)  # E: arg-type
changed(recipe, lambda r: r.callbacks[-1].k)(50)  # E: attr-defined
changed(recipe, lambda r: r.schedule.lengths)([0.2, 0.8])  # E: attr-defined
changed(recipe, lambda r: r.data.val.source)(None)  # E: union-attr
changed(recipe, lambda r: part(r.loss, MoCoLoss).chunk_size)(50)  # E: arg-type

# a value of another type
changed(recipe, lambda r: r.epochs)("800")  # E: arg-type
changed(recipe, lambda r: r.epochs)(0.5)  # E: arg-type
changed(recipe, lambda r: r.seed)(None)  # E: arg-type
changed(recipe, lambda r: r.precision)("bf16")  # E: arg-type
changed(recipe, lambda r: r.output)("runs")  # E: arg-type
changed(recipe, lambda r: r.data.train.batch_size)("50")  # E: arg-type
changed(recipe, lambda r: r.data.mean)(0.5)  # E: arg-type
changed(recipe, lambda r: r.callbacks)(KNNConf())  # E: arg-type
changed(recipe, lambda r: part(r.loss, SimCLRLoss).temperature)("0.2")  # E: arg-type
changed(recipe, lambda r: part(r.trunk, ResNet).depth)(51)  # E: arg-type; not pyright
changed(recipe, lambda r: part(r.callbacks[-1], KNN).k)(0.5)  # E: arg-type

# a part of another kind
changed(recipe, lambda r: r.loss)(MLPHeadConf(dims=[128]))  # E: arg-type
changed(recipe, lambda r: r.loss)(MoCoLossConf)  # E: arg-type
changed(recipe, lambda r: r.trunk)(SimCLRLossConf())  # E: arg-type
changed(recipe, lambda r: r.optimizer)(CosineConf())  # E: arg-type
changed(recipe, lambda r: r.schedule)(AdamWConf(rate=RateConf(lr=0.1)))  # E: arg-type
changed(recipe, lambda r: r.callbacks)([KNNConf(), CosineConf()])  # E: list-item
changed(recipe, lambda r: r.callbacks[0])(CosineConf())  # E: arg-type
changed(recipe, lambda r: r.data)(recipe.data.train)  # E: arg-type

# the wrong call
changed(recipe)(lambda r: r.epochs)  # E: call-arg, arg-type
changed(recipe, "epochs")(800)  # E: arg-type, arg-type
changed(recipe, lambda r: r.epochs)()  # E: call-arg
changed(recipe, lambda r: r.epochs)(1, 2)  # E: call-arg
changed(recipe, lambda r: r.epochs)(epochs=800)  # E: call-arg
part(recipe.loss)  # E: call-arg
part(recipe.loss, "SimCLRLoss")  # E: arg-type

# what it gives
not_the_copy: Experiment = changed(recipe, lambda r: r.epochs)  # E: assignment
not_the_loss: SimCLRLoss = changed(recipe, lambda r: r.loss)(SimCLRLossConf())  # E: assignment
not_the_head: SimCLRLoss = part(recipe.loss, MLPHeadConf)  # E: assignment
width: int = part(recipe.trunk, ResNetConf).width_multiplier  # E: assignment
any_loss: Loss = part(recipe.trunk, ResNet)  # E: assignment
