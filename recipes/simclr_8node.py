"""SimCLR on 8 nodes of 8 GPUs: 4096 images a step, LR 4.8."""

from recipes.simclr import simclr

recipe = simclr(nodes=8)
