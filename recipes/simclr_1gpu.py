"""SimCLR on one GPU: 256 images a step in bfloat16, LR 0.3."""

from recipes.simclr import simclr
from ssltyped.engine.parallel import Precision

recipe = simclr(num_procs=1, batch_size=256, precision=Precision.BF16)
