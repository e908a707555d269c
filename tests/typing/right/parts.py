"""Configs of single parts, as a recipe writes them."""

from pathlib import Path

from ssltyped.config import INFERRED
from ssltyped.data.digits import DigitsConf, DigitSplit
from ssltyped.data.image_list import ImageListConf
from ssltyped.data.sources import FlatFolderConf, ImageFolderConf
from ssltyped.engine.callbacks.metrics_file import MetricsFileConf
from ssltyped.engine.callbacks.nan_guard import NaNGuardConf
from ssltyped.engine.callbacks.progress import ProgressBarConf
from ssltyped.engine.callbacks.tensorboard import TensorBoardConf
from ssltyped.engine.checkpoint import CheckpointsConf
from ssltyped.engine.parallel import Device, DistributedConf
from ssltyped.evals.online_knn import KNN, KNNConf
from ssltyped.heads.mlp import MLPHead, MLPHeadConf
from ssltyped.heads.plumbing import IdentityHeadConf
from ssltyped.losses.simclr import SimCLRLoss, SimCLRLossConf
from ssltyped.meters.topk import TopKAccuracyConf
from ssltyped.optimizers.decay import DecayConf
from ssltyped.optimizers.groups import GroupConf
from ssltyped.optimizers.larc import LARCConf
from ssltyped.optimizers.rate import LRScaling, RateConf
from ssltyped.optimizers.torch_optim import AdamWConf, SGDConf
from ssltyped.schedulers.composite import CompositeConf
from ssltyped.schedulers.cosine import CosineConf
from ssltyped.schedulers.curves import ConstantConf, LinearConf
from ssltyped.schedulers.steps import MultiStepConf
from ssltyped.transforms.blur import GaussianBlurConf
from ssltyped.transforms.colour import ColorDistortionConf, ColorJitterConf, RandomGrayscaleConf
from ssltyped.transforms.geometry import CenterCropConf, HorizontalFlipConf, RandomResizedCropConf, ResizeConf
from ssltyped.transforms.views import RepeatViewsConf
from ssltyped.trunks.resnet import Norm, ResNet, ResNetConf, Stem
from ssltyped.types import Callback, Head, Loss, Optimizer, Scheduler, Source, Transform, Trunk, Update, ViewMaker

# every part by its defaults
loss: Loss = SimCLRLossConf()
trunk: Trunk = ResNetConf()
identity: Head = IdentityHeadConf()
source: Source = DigitsConf()
adamw: Optimizer = AdamWConf()
sgd: Optimizer = SGDConf()
constant: Scheduler = ConstantConf()
cosine: Scheduler = CosineConf()
linear: Scheduler = LinearConf()
blur: Transform = GaussianBlurConf()
distortion: Transform = ColorDistortionConf()
grayscale: Transform = RandomGrayscaleConf()
flip: Transform = HorizontalFlipConf()
knn: Callback = KNNConf()

# the class itself is also the type
exact_loss: SimCLRLoss = SimCLRLossConf(temperature=0.2)
exact_trunk: ResNet = ResNetConf(depth=18)
exact_head: MLPHead = MLPHeadConf(dims=[128])
exact_knn: KNN = KNNConf(k=5)

# values of every kind
whole_temperature = SimCLRLossConf(temperature=1)
chunked = SimCLRLossConf(temperature=0.5, chunk_size=128)
inferred_chunk = SimCLRLossConf(chunk_size=INFERRED)
small_trunk = ResNetConf(depth=18, stem=Stem.SMALL, norm=Norm.GROUP, groupnorm_groups=8)
dilated_trunk = ResNetConf(depth=101, layer4_stride=1, width_multiplier=2, zero_init_residual=True)
projection = MLPHeadConf(dims=[2048, 2048, 128], use_bn=True, use_relu=True)
linear_head = MLPHeadConf(dims=[1000], in_dim=2048)
lars_like = SGDConf(rate=RateConf(base_lr=0.3), larc=LARCConf(trust_coefficient=0.02, clip=True))
nesterov = SGDConf(rate=RateConf(lr=0.1), nesterov=True, decay=DecayConf(exclude=["bias", "prototypes"]))
scaled = AdamWConf(rate=RateConf(base_lr=1e-3, lr_scaling=LRScaling.SQRT), betas=(0.9, 0.95))
predictor = GroupConf(parts=["loss.predictor"], lr_scale=10, weight_decay=0, schedule=ConstantConf())
grouped = SGDConf(rate=RateConf(lr=0.1), groups=[predictor, GroupConf(parts=["heads"], lr=0.3, decay_norm=True)])
steps = MultiStepConf(milestones=[30, 60, 90], gamma=0.1, update=Update.EPOCH)
values = MultiStepConf(milestones=[30], values=[0.1, 0.01])
warmup = CompositeConf(schedulers=[LinearConf(start=0), CosineConf(end=1e-4)], lengths=[0.1, 0.9])
eight_gpus = DistributedConf(num_procs=8, device=Device.CUDA)
often = CheckpointsConf(every_epochs=5, every_steps=1000, keep=3, best="knn_top1")
folder = ImageFolderConf(path=Path("images/train"))
flat = FlatFolderConf(path=Path("images"))
listed = ImageListConf(path=Path("list.txt"), root=Path("images"))
test_digits = DigitsConf(split=DigitSplit.TEST)
crop = RandomResizedCropConf(size=96, scale=(0.2, 1.0), ratio=(1, 1))
jitter = ColorJitterConf(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, p=0.8)
resize = ResizeConf(size=256)
center = CenterCropConf(size=224)
topk = TopKAccuracyConf(topk=[1, 5])

# lists of parts, written out and named with their kind
views: ViewMaker = RepeatViewsConf(num_views=2, transforms=[crop, flip, jitter, blur])
watchers: list[Callback] = [
    ProgressBarConf(width=40),
    MetricsFileConf(file_name="m.jsonl"),
    TensorBoardConf(),
    NaNGuardConf(every_steps=10),
]
heads: list[Head] = [MLPHeadConf(dims=[128]), IdentityHeadConf()]
schedulers: list[Scheduler] = [LinearConf(), CosineConf()]
from_named = CompositeConf(schedulers=schedulers, lengths=[0.5, 0.5])
