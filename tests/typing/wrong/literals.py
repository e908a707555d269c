"""What only our mypy plugin sees: values outside a range, and overrides that the recipe has no place for."""

from recipes.quickstart import quickstart
from ssltyped import launch, override
from ssltyped.data.splits import TrainSplitConf
from ssltyped.evals.online_knn import KNNConf
from ssltyped.heads.mlp import EvalMLPHeadConf, MLPHeadConf
from ssltyped.losses.moco import MoCoLossConf
from ssltyped.losses.simclr import SimCLRLossConf
from ssltyped.meters.topk import TopKAccuracyConf
from ssltyped.optimizers.rate import RateConf
from ssltyped.optimizers.torch_optim import AdamWConf
from ssltyped.schedulers.composite import CompositeConf
from ssltyped.transforms.colour import ColorJitterConf, RandomGrayscaleConf
from ssltyped.transforms.views import RepeatViewsConf
from ssltyped.trunks.resnet import ResNetConf

recipe = quickstart()
views = recipe.data.train.views

# outside the range
SimCLRLossConf(temperature=-1)  # E: config-value; not pyright, ty, pyrefly
SimCLRLossConf(temperature=0)  # E: config-value; not pyright, ty, pyrefly
SimCLRLossConf(chunk_size=0)  # E: config-value; not pyright, ty, pyrefly
MoCoLossConf(momentum=1.5)  # E: config-value; not pyright, ty, pyrefly
MoCoLossConf(queue_size=-1, momentum=-0.5)  # E: config-value, config-value; not pyright, ty, pyrefly
ResNetConf(width_multiplier=-0.5)  # E: config-value; not pyright, ty, pyrefly
RateConf(lr=0.0)  # E: config-value; not pyright, ty, pyrefly
AdamWConf(betas=(0.9, 1.0))  # E: config-value; not pyright, ty, pyrefly
RateConf(layer_decay=1.0)  # E: config-value; not pyright, ty, pyrefly
KNNConf(k=0)  # E: config-value; not pyright, ty, pyrefly
RandomGrayscaleConf(p=1.2)  # E: config-value; not pyright, ty, pyrefly
ColorJitterConf(brightness=-0.4)  # E: config-value; not pyright, ty, pyrefly
TrainSplitConf(views=views, batch_size=0)  # E: config-value; not pyright, ty, pyrefly
TopKAccuracyConf(topk=[1, 0])  # E: config-value; not pyright, ty, pyrefly

# too few of something
MLPHeadConf(dims=[])  # E: config-value; not pyright, ty, pyrefly
MLPHeadConf(dims=[2048, -128])  # E: config-value; not pyright, ty, pyrefly
TopKAccuracyConf(topk=[])  # E: config-value; not pyright, ty, pyrefly
CompositeConf(schedulers=[], lengths=[])  # E: config-value; not pyright, ty, pyrefly
RepeatViewsConf(transforms=[], num_views=0)  # E: config-value; not pyright, ty, pyrefly
EvalMLPHeadConf(dims=[])  # E: config-value; not pyright, ty, pyrefly

# overrides
launch(recipe, overrides=["epoch=1"])  # E: config-value; not pyright, ty, pyrefly
launch(recipe, ["epochs=1", "sed=3"])  # E: config-value; not pyright, ty, pyrefly
launch(recipe, ["epochs=-1"])  # E: config-value; not pyright, ty, pyrefly
launch(recipe, ["epochs=0.5"])  # E: config-value; not pyright, ty, pyrefly
launch(recipe, ["epochs=many"])  # E: config-value; not pyright, ty, pyrefly
launch(recipe, ["seed=null"])  # E: config-value; not pyright, ty, pyrefly
launch(recipe, ["data.train.batchsize=50"])  # E: config-value; not pyright, ty, pyrefly
launch(recipe, ["data.train.batch_size=0"])  # E: config-value; not pyright, ty, pyrefly
launch(recipe, ["data.training.batch_size=10"])  # E: config-value; not pyright, ty, pyrefly
launch(recipe, ["data.val.batch_size=0"])  # E: config-value; not pyright, ty, pyrefly
launch(recipe, ("distributed.procs=2",))  # E: config-value; not pyright, ty, pyrefly
launch(recipe, ["~data.train.path_list"])  # E: config-value; not pyright, ty, pyrefly
override(recipe, ["epochs=1", "seeds=3"])  # E: config-value; not pyright, ty, pyrefly
override(SimCLRLossConf(), ["temprature=0.2"])  # E: config-value; not pyright, ty, pyrefly
override(SimCLRLossConf(), ["temperature=-0.2"])  # E: config-value; not pyright, ty, pyrefly
override(MLPHeadConf(dims=[4]), ["dims=[]"])  # E: config-value; not pyright, ty, pyrefly
