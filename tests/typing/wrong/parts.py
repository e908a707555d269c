"""Configs of single parts: a wrong name, a wrong type, a missing field, a wrong constant."""

from pathlib import Path

from ssltyped.data.digits import DigitsConf
from ssltyped.data.image_list import ImageListConf
from ssltyped.data.sources import FlatFolderConf, ImageFolderConf
from ssltyped.engine.callbacks.metrics_file import MetricsFileConf
from ssltyped.engine.callbacks.nan_guard import NaNGuardConf
from ssltyped.engine.callbacks.progress import ProgressBarConf
from ssltyped.engine.callbacks.tensorboard import TensorBoardConf
from ssltyped.engine.checkpoint import CheckpointsConf
from ssltyped.engine.parallel import Device, DistributedConf
from ssltyped.evals.online_knn import KNNConf
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.heads.plumbing import IdentityHeadConf
from ssltyped.losses.simclr import SimCLRLossConf
from ssltyped.meters.topk import TopKAccuracyConf
from ssltyped.optimizers.decay import DecayConf
from ssltyped.optimizers.groups import GroupConf
from ssltyped.optimizers.larc import LARCConf
from ssltyped.optimizers.rate import RateConf
from ssltyped.optimizers.torch_optim import AdamWConf, SGDConf
from ssltyped.schedulers.composite import CompositeConf
from ssltyped.schedulers.cosine import CosineConf
from ssltyped.schedulers.curves import ConstantConf, LinearConf
from ssltyped.schedulers.steps import MultiStepConf, PiecewiseConstantConf
from ssltyped.transforms.blur import GaussianBlurConf
from ssltyped.transforms.colour import ColorDistortionConf, ColorJitterConf, RandomGrayscaleConf
from ssltyped.transforms.geometry import CenterCropConf, HorizontalFlipConf, RandomResizedCropConf, ResizeConf
from ssltyped.transforms.views import RepeatViewsConf
from ssltyped.trunks.base import InputConf
from ssltyped.trunks.resnet import Norm, ResNetConf, Stem

# a field that there is not
SimCLRLossConf(temprature=0.2)  # E: call-arg
ResNetConf(layers=50)  # E: call-arg
MLPHeadConf(dims=[128], use_batch_norm=True)  # E: call-arg
SGDConf(learning_rate=0.1)  # E: call-arg
SGDConf(lr=0.1)  # E: call-arg
AdamWConf(beta1=0.9)  # E: call-arg
DistributedConf(gpus=8)  # E: call-arg
KNNConf(neighbours=20)  # E: call-arg
NaNGuardConf(steps=1)  # E: call-arg

# a value of another type
SimCLRLossConf(temperature="0.2")  # E: arg-type
SimCLRLossConf(temperature=None)  # E: arg-type
SimCLRLossConf(chunk_size=128.5)  # E: arg-type
ResNetConf(width_multiplier="x2")  # E: arg-type
ResNetConf(zero_init_residual="no")  # E: arg-type
ResNetConf(input=InputConf(channels=3.0))  # E: arg-type
MLPHeadConf(dims=128)  # E: arg-type
MLPHeadConf(dims=(2048, 128))  # E: arg-type
MLPHeadConf(dims=[2048, "128"])  # E: list-item
MLPHeadConf(dims=[2048, 128.0])  # E: list-item
MLPHeadConf(dims=[128], dropout=[0.5])  # E: arg-type
IdentityHeadConf(in_dim="512")  # E: arg-type
SGDConf(rate=RateConf(lr="0.3"))  # E: arg-type
SGDConf(nesterov=None)  # E: arg-type
DecayConf(exclude="bias")  # E: arg-type
GroupConf(parts="loss.predictor")  # E: arg-type
GroupConf(parts=["heads"], lr_scale="10")  # E: arg-type
AdamWConf(betas=0.9)  # E: arg-type
AdamWConf(betas=(0.9,))  # E: arg-type
AdamWConf(betas=(0.9, 0.99, 0.999))  # E: arg-type
AdamWConf(betas=[0.9, 0.999])  # E: arg-type
LARCConf(clip=0.5)  # E: arg-type
DistributedConf(num_procs="all")  # E: arg-type
CheckpointsConf(every_epochs=0.5)  # E: arg-type
CheckpointsConf(best=True)  # E: arg-type
KNNConf(at_start="yes")  # E: arg-type
ProgressBarConf(width=30.5)  # E: arg-type
MetricsFileConf(file_name=Path("metrics.jsonl"))  # E: arg-type
TensorBoardConf(folder_name=None)  # E: arg-type
TopKAccuracyConf(topk=5)  # E: arg-type
CosineConf(end=None)  # E: arg-type
LinearConf(start="0")  # E: arg-type
MultiStepConf(milestones=30)  # E: arg-type
MultiStepConf(milestones=[30], values=[0.1, "0.01"])  # E: list-item
RandomResizedCropConf(scale=0.08)  # E: arg-type
RandomResizedCropConf(scale=(0.08, 0.5, 1.0))  # E: arg-type
RandomResizedCropConf(size=(224, 224))  # E: arg-type
ColorJitterConf(hue="0.2")  # E: arg-type
GaussianBlurConf(radius_max=None)  # E: arg-type
ColorDistortionConf(strength=[1.0])  # E: arg-type
ImageListConf(path="list.txt")  # E: arg-type
FlatFolderConf(path="images")  # E: arg-type

# a string, a number or another enum in the place of an enum's member
ResNetConf(stem="small")  # E: arg-type
ResNetConf(norm=Stem.SMALL)  # E: arg-type
ResNetConf(norm=Norm.INSTANCE)  # E: attr-defined
DistributedConf(device="cuda")  # E: arg-type
DistributedConf(device=Device.TPU)  # E: attr-defined
DigitsConf(split="train")  # E: arg-type
RateConf(lr_scaling="sqrt")  # E: arg-type
ConstantConf(value=0.1, update="epoch")  # E: arg-type

# a number that is none of the allowed ones
ResNetConf(depth=51)  # E: arg-type
ResNetConf(layer4_stride=4)  # E: arg-type

# a missing field
MLPHeadConf()  # E: call-arg
TopKAccuracyConf()  # E: call-arg
ImageFolderConf()  # E: call-arg
PiecewiseConstantConf()  # E: call-arg
GroupConf(lr_scale=10)  # E: call-arg
CompositeConf(schedulers=[CosineConf()])  # E: call-arg
RepeatViewsConf(num_views=2)  # E: call-arg

# values without their names
SimCLRLossConf(0.2)  # E: call-arg, arg-type
MLPHeadConf([2048, 128])  # E: call-arg
CenterCropConf(224)  # E: call-arg
ResizeConf(256)  # E: call-arg
HorizontalFlipConf(0.5)  # E: call-arg
RandomGrayscaleConf(0.2)  # E: call-arg
