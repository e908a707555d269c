"""Parts in other parts: of the wrong kind, in the wrong place, in a list of the wrong kind."""

from pathlib import Path

from ssltyped.data.digits import DigitsConf
from ssltyped.data.pipeline import DataConf
from ssltyped.data.splits import EvalSplitConf, TrainSplitConf
from ssltyped.evals.online_knn import KNNConf
from ssltyped.heads.mlp import MLPHead, MLPHeadConf
from ssltyped.losses.simclr import SimCLRLoss, SimCLRLossConf
from ssltyped.optimizers.larc import LARCConf
from ssltyped.optimizers.rate import RateConf
from ssltyped.optimizers.torch_optim import AdamWConf, SGDConf
from ssltyped.schedulers.composite import CompositeConf
from ssltyped.schedulers.cosine import CosineConf
from ssltyped.transforms.blur import GaussianBlurConf
from ssltyped.transforms.geometry import CenterCropConf, HorizontalFlipConf, RandomResizedCropConf
from ssltyped.transforms.views import RepeatViewsConf
from ssltyped.trunks.resnet import ResNetConf
from ssltyped.types import Callback, Head, Loss, Scheduler, Transform, Trunk

views = RepeatViewsConf(transforms=[RandomResizedCropConf(size=32)])
train = TrainSplitConf(path=Path("images"), views=views, batch_size=8)

# a part of another kind
SGDConf(rate=RateConf(lr=0.1), larc=AdamWConf(rate=RateConf(lr=0.1)))  # E: arg-type
SGDConf(rate=RateConf(lr=0.1), larc=True)  # E: arg-type
SGDConf(rate=0.1)  # E: arg-type
SGDConf(rate=RateConf(lr=0.1), groups=[RateConf(lr=0.1)])  # E: list-item
DataConf(train=EvalSplitConf(transforms=[]))  # E: arg-type
DataConf(train=train, val=train)  # E: arg-type
DataConf(train=DigitsConf())  # E: arg-type
TrainSplitConf(views=HorizontalFlipConf(), batch_size=8)  # E: arg-type
TrainSplitConf(views=[HorizontalFlipConf()], batch_size=8)  # E: arg-type
TrainSplitConf(views=views, batch_size=8, source=views)  # E: arg-type
TrainSplitConf(views=views, batch_size=8, path=DigitsConf())  # E: arg-type
EvalSplitConf(transforms=views)  # E: arg-type

# the class of a part, or its config class, in the place of the part
SGDConf(rate=RateConf(lr=0.1), larc=LARCConf)  # E: arg-type
TrainSplitConf(views=RepeatViewsConf, batch_size=8)  # E: arg-type

# a part of another kind in a list
RepeatViewsConf(transforms=[HorizontalFlipConf(), CosineConf()])  # E: list-item
RepeatViewsConf(transforms=[[HorizontalFlipConf()]])  # E: list-item
RepeatViewsConf(transforms=["HorizontalFlip"])  # E: list-item
RepeatViewsConf(transforms=GaussianBlurConf())  # E: arg-type
EvalSplitConf(transforms=[CenterCropConf(size=32), KNNConf()])  # E: list-item
CompositeConf(schedulers=[CosineConf(), SGDConf(rate=RateConf(lr=0.1))], lengths=[0.1, 0.9])  # E: list-item
CompositeConf(schedulers=CosineConf(), lengths=[1.0])  # E: arg-type
CompositeConf(schedulers=[CosineConf()], lengths=[CosineConf()])  # E: list-item

# a part given to a variable of another kind
trunk: Trunk = MLPHeadConf(dims=[128])  # E: assignment
head: Head = SimCLRLossConf()  # E: assignment
loss: Loss = SimCLRLoss  # E: assignment
scheduler: Scheduler = SGDConf(rate=RateConf(lr=0.1))  # E: assignment
transform: Transform = views  # E: assignment
callbacks: list[Callback] = [KNNConf(), CosineConf()]  # E: list-item
heads: list[Head] = [MLPHeadConf(dims=[128]), ResNetConf()]  # E: list-item

# what a config builds has the fields and methods of its class
temperature: float = SimCLRLossConf().temprature  # E: assignment
MLPHeadConf(dims=[128]).forward("image")  # E: arg-type
width: str = MLPHeadConf(dims=[128]).out_dim  # E: assignment
MLPHead(dims=[128], in_dim=64).out_dim = 3  # E: misc
