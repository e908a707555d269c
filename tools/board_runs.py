"""The runs behind docs/board.md: a method of recipes.small with a seed, and what its trunk is worth then."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib
import io
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Optional

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from recipes.small.base import DIGITS, Dials
from ssltyped import Outcome, build, launch
from ssltyped.config import REQUIRED, replaced, to_yaml
from ssltyped.data.measured import TrainTestSetConf
from ssltyped.data.normalizing import Normalizer
from ssltyped.engine.settled import BATCHES, settled
from ssltyped.evals import Samples, Setting, extract, knn_accuracies, linear_accuracy
from ssltyped.experiment import Experiment
from ssltyped.model.model import SSLModel, default_feature
from ssltyped.tasks.knn import KNNEvalConf
from ssltyped.tasks.linear import LinearEvalConf
from ssltyped.types import Source, Trunk
from tools import board_lightly
from tools.board_lightly import Trained

PROTOCOL = 1
"""Of the measures below: numbers of another one are not comparable."""
K = 20
FOLDER = Path("runs/board")
BEFORE = {
    "clusterfit": ("clusterfit_clusters", "data.train.labels", "cluster_labels.npy"),
    "distillation": ("swav", "loss.teacher.weights", "weights.pt"),
}
"""What has to be trained before, and the field that gets which of its files."""


class Side(Enum):
    """What is measured: a run of ours, the same by lightly's loss, the start of either, or the images themselves."""

    OURS = "ssltyped"
    LIGHTLY = "lightly"
    UNTRAINED = "untrained"
    SETTLED = "untrained, settled"
    PIXELS = "pixels"


@dataclasses.dataclass(frozen=True)
class Job:
    """One run: which method, with which seed and dials, on which side."""

    side: Side
    method: str
    seed: int
    dials: Dials = DIGITS

    @property
    def asked(self) -> Experiment:
        """What is run; one that stands on another run names this one's file, and with it all that was asked of it."""
        module = importlib.import_module(f"recipes.small.{self.method}")
        recipe: Experiment = getattr(module, self.method)(self.dials)
        fields = {"seed": self.seed, "data.train.num_workers": 0, "output": FOLDER}
        if self.before is not None:
            _, path, file = BEFORE[self.method]
            fields[path] = self.before.folder / file
        return replaced(recipe, fields)

    @property
    def before(self) -> Optional[Job]:
        """The run that this one stands on."""
        ours = self.side is Side.OURS and self.method in BEFORE
        return dataclasses.replace(self, method=BEFORE[self.method][0]) if ours else None

    @functools.cached_property
    def hash(self) -> str:
        """Of all that is asked for: a row with it is not run again."""
        version = board_lightly.VERSION if self.side is Side.LIGHTLY else ""
        text = f"{PROTOCOL} {K} {self.side.value} {version} {to_yaml(self.asked)}"
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def folder(self) -> Path:
        """Of the run: another one for whatever else is asked for."""
        return FOLDER / self.method / f"{self.seed}-{self.hash}"

    @property
    def recipe(self) -> Experiment:
        """What is launched."""
        return replaced(self.asked, {"name": str(self.folder.relative_to(FOLDER))})


@dataclasses.dataclass(frozen=True)
class Row:
    """What a job gave.

    Args:
        knn: accuracy of the test images among the training images, in percent.
        linear: of a linear classifier, in percent.
        steps: that were trained.
        cpu_s: of the training, evaluations in it included.
        steps_per_s: the median over the stretches of its log.
        warnings: what the run warned of.
        epochs: that were asked for.
    """

    side: str
    method: str
    seed: int
    hash: str
    knn: float
    linear: float
    steps: int = 0
    cpu_s: float = 0.0
    steps_per_s: float = 0.0
    warnings: tuple[str, ...] = ()
    epochs: int = DIGITS.epochs

    @staticmethod
    def read(line: str) -> Row:
        """From a line of the file of rows."""
        fields = json.loads(line)
        return Row(**{**fields, "warnings": tuple(fields["warnings"])})

    def write(self) -> str:
        """A line for the file of rows."""
        return json.dumps(dataclasses.asdict(self)) + "\n"


class Interrupted(Exception):
    """The run was stopped; the same command goes on with it."""


def run(job: Job) -> Row:
    """Do it, on one thread. Raises `Interrupted`, and `ConfigError` for a recipe that cannot run."""
    torch.set_num_threads(1)
    if job.side is Side.PIXELS:
        return _row(job, *accuracies(*(_pixels(source) for source in _sources(job.recipe)), seed=job.seed))
    if job.side in (Side.UNTRAINED, Side.SETTLED):
        torch.manual_seed(job.seed)
        trunk = build(job.recipe.trunk)
        return _row(job, *worth(_settled(trunk, job.recipe) if job.side is Side.SETTLED else trunk, job))
    if job.side is Side.LIGHTLY:
        trained = board_lightly.train(job.method, job.recipe)
    else:
        if job.before is not None:
            _trained(job.before)
        if _is_done(job):  # and its row is gone: a run of another code, or one that was taken out to be run again
            shutil.rmtree(job.folder)
            _parts(job).unlink(missing_ok=True)
        trained = _trained(job)
    return _row(job, *worth(trained.trunk, job), trained)


def _is_done(job: Job) -> bool:
    result = job.folder / "result.json"
    return result.exists() and json.loads(result.read_text())["outcome"] == Outcome.FINISHED.value


def _parts(job: Job) -> Path:
    """What each stretch of a run took and warned of: one that was stopped goes on in another process."""
    return job.folder.with_name(f"{job.folder.name}.jsonl")


def _row(job: Job, knn: float, linear: float, trained: Optional[Trained] = None) -> Row:
    epochs = job.dials.epochs
    row = Row(job.side.value, job.method, job.seed, job.hash, round(knn, 2), round(linear, 2), epochs=epochs)
    if trained is None:
        return row
    cpu_s, steps_per_s = round(trained.cpu_s, 1), round(trained.steps_per_s, 2)
    return dataclasses.replace(
        row, steps=trained.steps, cpu_s=cpu_s, steps_per_s=steps_per_s, warnings=trained.warnings
    )


def _trained(job: Job) -> Trained:
    """Our run, which goes on where it was stopped."""
    told, started = io.StringIO(), time.process_time()
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with contextlib.redirect_stdout(told):
            done = launch(job.recipe)
    finally:
        warned = [line for line in told.getvalue().splitlines() if line.startswith("warning")]
        with _parts(job).open("a") as file:
            file.write(json.dumps({"cpu_s": time.process_time() - started, "warnings": warned}) + "\n")
    if done.outcome is not Outcome.FINISHED:
        raise Interrupted(done.folder)
    parts = [json.loads(line) for line in _parts(job).read_text().splitlines()]
    rows = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
    rates = [row["images_per_s"] / job.dials.batch_size for row in rows if "images_per_s" in row]
    warnings = tuple(dict.fromkeys(line for part in parts for line in part["warnings"]))
    steps, cpu_s = max(row["step"] for row in rows), sum(part["cpu_s"] for part in parts)
    return Trained(done.model.trunk, steps, cpu_s, statistics.median(rates), warnings)


# --- what a trunk is worth ------------------------------------------------------------------------------------

Rows = tuple[Float[Tensor, "N D"], Int64[Tensor, "N"]]


def worth(trunk: Trunk, job: Job) -> tuple[float, float]:
    """kNN and linear accuracy of the trunk's last feature, of the test images."""
    recipe = job.recipe
    assert recipe.data.val is not None
    transforms = [build(transform) for transform in recipe.data.val.transforms]
    bank, test = _sources(recipe)
    with tempfile.TemporaryDirectory() as folder:
        of_both = []
        for name, source in {"bank": bank, "test": test}.items():
            features = extract(
                trunk,
                source,
                Path(folder) / name,
                transforms=transforms,
                mean=recipe.data.mean,
                std=recipe.data.std,
            )
            (feature,) = features.names
            of_both.append((torch.tensor(features[feature][:]), torch.tensor(features.label[:])))
    return accuracies(*of_both, seed=job.seed)


def accuracies(bank: Rows, test: Rows, *, seed: int) -> tuple[float, float]:
    """By the 20 nearest neighbours, and by a linear classifier whose setting a tenth of the bank decides."""
    classes = int(bank[1].max()) + 1
    knn_conf = KNNEvalConf(weights=REQUIRED, data=TrainTestSetConf())
    linear_conf = LinearEvalConf(weights=REQUIRED, data=TrainTestSetConf())
    found = knn_accuracies(*bank, *test, ks=[K], temperature=knn_conf.temperature, num_classes=classes)
    order = torch.randperm(len(bank[0]), generator=torch.Generator().manual_seed(seed))
    held, rest = order[: len(order) // 10], order[len(order) // 10 :]
    train, held_out, tested = (_samples(*rows) for rows in (_of(bank, rest), _of(bank, held), test))
    settings = [Setting(lr, decay) for lr in linear_conf.lrs for decay in linear_conf.weight_decays]
    linear = linear_accuracy(train, held_out, tested, num_classes=classes, settings=settings, seed=seed)
    return found[K]["top1"], linear["rows"].accuracy["top1"]


def _samples(rows: Float[Tensor, "N D"], labels: Int64[Tensor, "N"]) -> Samples:
    return Samples({"rows": rows}, labels)


def _of(rows: Rows, chosen: Int64[Tensor, "M"]) -> Rows:
    return rows[0][chosen], rows[1][chosen]


def _sources(recipe: Experiment) -> tuple[Source, Source]:
    """The images that the recipe brings along: to learn from, and to judge by."""
    assert recipe.data.val is not None
    train, val = recipe.data.train.sample, recipe.data.val.sample
    assert train is not None
    assert val is not None
    return build(train), build(val)


def _pixels(source: Source) -> Rows:
    images = torch.stack([source.read(index).flatten() for index in range(len(source))]).float()
    return images - 128, torch.tensor([source.label(index) for index in range(len(source))])


def _settled(trunk: Trunk, recipe: Experiment) -> Trunk:
    """With BatchNorm statistics of some training images, as the first steps of a training would give."""
    source, size = _sources(recipe)[0], recipe.data.train.batch_size
    images = [source.read(index) for index in range(min(len(source), BATCHES * size))]
    normalize = Normalizer(recipe.data.mean, recipe.data.std)
    views = [normalize(torch.stack(images[at : at + size])) for at in range(0, len(images), size)]
    model = settled(
        SSLModel(trunk=trunk, heads={}, extra=[default_feature(trunk)]), views, lambda model, view: model([view])
    )
    return model.trunk


def baselines(methods: Mapping[str, Experiment]) -> dict[str, str]:
    """Of each method, the first one that starts from the same trunk."""
    firsts: dict[str, str] = {}
    return {method: firsts.setdefault(to_yaml(recipe.trunk), method) for method, recipe in methods.items()}
