"""What the mypy plugin must let pass: values at the ends of ranges, and overrides in all of the grammar."""

from recipes.quickstart import quickstart
from ssltyped import INFERRED, launch, override
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.losses.moco import MoCoLossConf
from ssltyped.losses.simclr import SimCLRLossConf
from ssltyped.optimizers.rate import RateConf
from ssltyped.optimizers.torch_optim import AdamWConf
from ssltyped.transforms.colour import RandomGrayscaleConf
from ssltyped.trunks.regnet import AnyNetConf

recipe = quickstart()
TEMPERATURE = 0.2

cold = SimCLRLossConf(temperature=1e-9, chunk_size=INFERRED)
computed = SimCLRLossConf(temperature=TEMPERATURE * 2)
frozen = MoCoLossConf(momentum=1.0)
never, always = RandomGrayscaleConf(p=0), RandomGrayscaleConf(p=1)
adam = AdamWConf(rate=RateConf(lr=1e-3), betas=(0.0, 0.999))
head = MLPHeadConf(dims=[int(TEMPERATURE) + 1, 128], in_dim=4)
net = AnyNetConf(depths=[1], widths=[64], group_widths=[16], strides=[1], bottleneck_multipliers=[1.0])

more = override(recipe, ["epochs=null", "steps=3", "seed=7", "name=2024_01", "log_every=1"])
lower = override(recipe, ["loss.temperature=0.5", "data.train.batch_size=10", "data.val.batch_size=20"])
others = override(recipe, ["optimizer=AdamW", "optimizer.rate.lr=1e-3", "loss=MoCoLoss", "loss.queue_size=1000"])
lists = override(recipe, ["+callbacks=KNN", "~callbacks.0", "data.mean=[0.4,0.4,0.4]", "precision=bf16"])
linked = override(recipe, ["steps=${seed}", "seed=3", "epochs=null", "output='some where'"])
loss = override(SimCLRLossConf(), ["temperature=1", "~chunk_size"])


def launching(extra: str) -> None:
    """Never called by the tests: these would train."""
    launch(recipe, ["epochs=1", extra, f"seed={extra}"])
    launch(recipe, overrides=["data.train.source=Digits", "data.train.source.split=test"])
