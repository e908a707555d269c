"""The plan: numbers checked by hand, the curve as text, and what it says cannot run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Float
from tiny import TORCHRUN, tiny
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.simclr_8node import recipe as eight_nodes
from ssltyped import config
from ssltyped.cli.plan import Memory, curve, measure, plan
from ssltyped.config import ConfigError, config_for
from ssltyped.config.overrides import override
from ssltyped.engine.callbacks.metrics_file import MetricsFileConf
from ssltyped.engine.checkpoint import CheckpointsConf
from ssltyped.engine.strategy import StepModule
from ssltyped.experiment import Experiment
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.model.model import SSLModel
from ssltyped.optimizers.rate import RateConf
from ssltyped.optimizers.torch_optim import AdamWConf, SGDConf
from ssltyped.resolution import resolve_experiment
from ssltyped.run import main
from ssltyped.schedulers.composite import CompositeConf
from ssltyped.schedulers.cosine import Cosine, CosineConf
from ssltyped.schedulers.curves import LinearConf
from ssltyped.types import Batch, Collator, Features, Loss, Model, Moment, StepOutput, Trunk, Update

PIXELS, WIDTH, OUT, BATCH = 3 * 16 * 16, 10, 4, 8


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)


class Flat(Trunk):
    """One linear layer and a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(PIXELS, WIDTH, bias=False)

    @property
    def feature_dims(self) -> Mapping[str, int]:
        return {"flat": WIDTH}

    def forward(self, images: Float[Tensor, "B C H W"], features: Sequence[str]) -> Features:
        return [F.relu(self.layer(images.flatten(1)))]


class Square(Loss):
    """mean z^2."""

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        z = model(batch.views).of("projector")
        return StepOutput(loss=z.square().mean())


class Misfit(Collator):
    """Of no batch.

    Args:
        text: what it says.
    """

    def __init__(self, *, text: str = "labels are rows") -> None:
        self.text = text

    def __call__(self, batch: Batch, random: np.random.Generator) -> Batch:
        raise ValueError(self.text)


class Incomplete(Loss):
    """Calls with too few arguments."""

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        return StepOutput(loss=nn.CTCLoss()(model(batch.views).of("projector"), batch.index))


FlatConf, SquareConf = config_for(Flat), config_for(Square)
MisfitConf, IncompleteConf = config_for(Misfit), config_for(Incomplete)


def flat() -> Experiment:
    head = MLPHeadConf(dims=[OUT], use_bias=False)
    return config.replaced(
        tiny(loss=SquareConf(), optimizer=SGDConf(rate=RateConf(lr=0.1))),
        {"trunk": FlatConf(), "heads": {"projector": head}},
    )


def measured(asked: Experiment) -> Memory:
    resolution = resolve_experiment(asked)
    with torch.device("meta"):
        built = config.build(resolution.config)
        module = StepModule(SSLModel(trunk=built.trunk, heads=built.heads), built.loss)
    return measure(module, built, resolution)


def test_memory_by_hand() -> None:
    """Saved for the gradient: both views joined, the ReLU's output, and z.

    The head saves its transposed weight, which is no memory of its own.
    """
    weights = 4 * (PIXELS * WIDTH + WIDTH * OUT)
    images = 4 * 2 * BATCH * PIXELS
    activations = images + 4 * 2 * BATCH * (WIDTH + OUT)
    wanted = Memory(weights=weights, gradients=weights, optimizer=weights, activations=activations, images=images)
    assert measured(flat()) == wanted
    assert measured(override(flat(), ["optimizer.momentum=0"])).optimizer == 0


def test_memory_of_an_optimizer() -> None:
    """AdamW: two moments, and a count for each of the two tensors."""
    asked = config.replaced(flat(), {"optimizer": AdamWConf(rate=RateConf(lr=0.1))})
    assert measured(asked).optimizer == 2 * 4 * (PIXELS * WIDTH + WIDTH * OUT) + 2 * 4


def test_memory_grows_with_the_batch() -> None:
    one, two = measured(tiny()), measured(override(tiny(), ["data.train.batch_size=16"]))
    assert two.images == 2 * one.images
    assert 1.9 < two.activations / one.activations < 2.1
    assert (one.weights, one.optimizer) == (two.weights, two.optimizer)


def test_a_real_network_holds_its_outputs() -> None:
    """The activations of a ResNet are not counted below the outputs of its convolutions."""
    model = resolve_experiment(tiny()).config
    net = config.build(model.trunk)
    sizes: list[int] = []
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _, __, out: sizes.append(out.numel() * 4))
    net(torch.zeros(2 * BATCH, 3, 16, 16), ["flatten"])
    held = measured(tiny()).activations
    assert sum(sizes) < held < 4 * sum(sizes)


def test_parts_and_parameters() -> None:
    text = plan(flat(), "flat")
    parts = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.endswith("parameters")}
    assert parts == {
        "trunk": ["Flat", f"{PIXELS * WIDTH:,}", "parameters"],
        "heads.projector": ["MLPHead", f"{WIDTH * OUT:,}", "parameters"],
        "loss": ["Square", "0", "parameters"],
    }


def test_what_is_inferred_and_how_long() -> None:
    text = plan(tiny(epochs=2), "tiny")
    assert re.search(r"^  global_batch_size +8 +8 images a rank x 1 rank$", text, re.MULTILINE)
    assert re.search(r"^  heads.projector.in_dim +64 +width of the trunk's flatten$", text, re.MULTILINE)
    assert "  8 images a step, 3 steps an epoch, 6 steps" in text


def test_where_it_writes(tmp_path: Path) -> None:
    asked = tiny(
        output=tmp_path,
        callbacks=[MetricsFileConf()],
        checkpoints=CheckpointsConf(every_epochs=3, every_steps=7, keep=4),
    )
    text = plan(asked, "other")
    assert f"written to {tmp_path / 'tiny'}" in text
    assert "checkpoints/ every 3 epochs and every 7 steps, the newest 4 kept; resume=auto" in text
    assert "  MetricsFile" in text
    assert not list(tmp_path.iterdir()), "nothing is written by a plan"


def bars(update: Update = Update.STEP, epochs: int = 100) -> tuple[str, str]:
    text, line = curve(Cosine(start=0.8, end=0.0, update=update), epochs)
    return text, line.strip()


def test_curve() -> None:
    text, line = bars()
    assert text == "learning rate: 0.8 at the start, 0.8 at most, 0 at the end"
    assert len(line) == 60
    assert line[0] == "█"
    assert line[-1] == "▁"
    assert list(line) == sorted(line, reverse=True)
    assert line[30] == "▄", "half way, half the rate"


def test_curve_by_epoch_has_steps() -> None:
    _, line = bars(Update.EPOCH, epochs=3)
    assert [line[0], line[20], line[40]] == ["█", "▆", "▂"]
    assert line == line[0] * 20 + line[20] * 20 + line[40] * 20


def test_curve_of_a_warmup() -> None:
    schedule = CompositeConf(
        schedulers=[LinearConf(start=0.0, end=1.0), LinearConf(start=1.0, end=0.0)], lengths=[0.5, 0.5]
    )
    text, line = curve(config.build(schedule), 10)
    assert "0 at the start" in text
    rise, fall = line.strip()[:30], line.strip()[30:]
    assert list(rise) == sorted(rise)
    assert list(fall) == sorted(fall, reverse=True)
    assert max(line) == "█"


def test_curve_of_nothing() -> None:
    """A rate of 0 all the time is drawn, not divided by."""
    _, line = curve(Cosine(start=0.0, end=0.0), 1)
    assert line.strip() == "▁" * 60


def test_eight_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    text = plan(eight_nodes, "simclr_8node")
    assert "4,096 images a step, 312 steps an epoch, 31,200 steps" in text
    assert re.search(r"^  optimizer.rate.lr +4.8 +base_lr 0.3 x \(4096 images a step / 256\)", text, re.MULTILINE)
    assert "memory on each of 64 ranks" in text
    assert re.search(r"^  trunk +ResNet +23,508,032 parameters$", text, re.MULTILINE)
    assert "not to be started here as it is:" in text
    assert "torchrun --nnodes=8" in text


def test_what_fits_is_not_complained_about() -> None:
    assert "not to be started" not in plan(tiny(), "tiny")


def test_what_may_be_unwise_is_said() -> None:
    rising = tiny(schedule=CosineConf(start=0.01, end=0.05))
    said = "\nmay be unwise\n  schedule: rises to the end of the run, where it is 0.05: most fall\n"
    assert said in plan(rising, "tiny")
    assert "may be unwise" not in plan(tiny(), "tiny")


def test_mistakes_are_errors() -> None:
    with pytest.raises(ConfigError, match="steps"):
        plan(config.replaced(tiny(), {"epochs": None}), "tiny")


def told(asked: Experiment, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        plan(override(asked, overrides), "tiny")
    return str(caught.value)


def test_what_one_step_would_raise_is_a_mistake() -> None:
    """Whichever part it comes from: data, loss, what is frozen, optimizer."""
    collated = config.replaced(tiny(), {"data.train.collators": [MisfitConf()]})
    assert told(collated) == "one step of this does not fit together: labels are rows"
    assert "does not fit together: CTCLoss.forward() missing 2" in told(tiny(loss=IncompleteConf()))
    nothing = told(tiny(), "freeze=[Freeze]", "freeze.0.parts=[trunk,heads]")
    assert nothing == "freeze: nothing is left that learns: leave a part of the model out of it"
    excluded = told(tiny(), "optimizer.decay.exclude=[foo]")
    assert excluded.startswith("optimizer: decay.exclude: no parameter has 'foo' in its")
    group = ["+optimizer.groups=Group", "optimizer.groups.0.parts=[heads.3]"]
    assert told(tiny(), *group).startswith("optimizer.groups.0.parts.0: there is no module and no parameter 'heads.3'")


@pytest.mark.parametrize(("overrides", "code"), [([], 0), (["loss.temperature=-1"], 2)])
def test_exit_codes(overrides: list[str], code: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["tiny", "--plan", f"output={tmp_path}", *overrides]) == code
    assert ("loss.temperature" in capfd.readouterr().err) == (code == 2)
    assert not list(tmp_path.iterdir())


class Asserting(Trunk):
    """A trunk of a user's with a check of its own."""

    def __init__(self, *, where: str) -> None:
        super().__init__()
        self.where, self.layer = where, nn.Linear(PIXELS, WIDTH)
        assert where != "constructor", "it is not built"

    @property
    def feature_dims(self) -> Mapping[str, int]:
        return {"last": WIDTH}

    def forward(self, images: Float[Tensor, "B C H W"], features: Sequence[str]) -> Features:
        if self.where == "missing":
            raise KeyError("last")
        assert images.shape[-1] == 224, "only photographs"
        return [self.layer(images.flatten(1)) for _ in features]


AssertingConf = config_for(Asserting)


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("constructor", "trunk: Asserting cannot be built: AssertionError: it is not built"),
        ("step", "trunk: does not fit the views of data.train, 16 pixels: AssertionError: only photographs"),
        ("missing", "trunk: does not fit the views of data.train, 16 pixels: KeyError: 'last'"),
    ],
)
def test_a_slip_in_a_part_of_ones_own_is_told_with_its_line(where: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(config.replaced(tiny(), {"trunk": AssertingConf(where=where)}), "tiny")
    (problem,) = caught.value.problems
    assert str(problem).startswith(told)
    assert "test_plan.py, line " in problem.message


@pytest.mark.parametrize(
    ("overrides", "path"),
    [
        (["trunk.width_multiplier=1e9"], "trunk"),
        (["trunk.width_multiplier=1e308"], "trunk"),
        (["heads.projector.dims=[4611686018427387904]"], "heads.projector"),
        ([f"data.train.views.num_views={2**62}"], ""),
    ],
)
def test_sizes_that_no_memory_has(overrides: list[str], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(override(tiny(), overrides), "tiny")
    assert [problem.path for problem in caught.value.problems] == [path]
    assert "\n" not in str(caught.value)
