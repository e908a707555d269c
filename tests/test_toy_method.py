"""A new method is one file, one recipe and one test, in a folder of one's own; no file of ours is edited."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
from checkers import mypy_lines

from ssltyped.run import main

METHOD = '''
"""Agreement: two views of an image are to have equal embeddings, and the batch is to be spread."""

from collections.abc import Iterable
from typing import Annotated, Self

import torch.nn.functional as F
from annotated_types import Ge

from ssltyped import distributed
from ssltyped.config import INFERRED, config_for
from ssltyped.types import Batch, Facts, Loss, Model, Moment, Problem, StepOutput


class AgreementLoss(Loss):
    """loss = mean |u_1 - u_2|^2 + spread |mean u|^2 over all images of the world, u = z / |z|.

    Args:
        head: the head that is read.
        spread: weight of the second term.
    """

    def __init__(self, *, head: str = INFERRED, spread: Annotated[float, Ge(0)] = 1.0) -> None:
        super().__init__()
        self.head, self.spread = head, spread

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from super().problems(config, facts)
        if facts.num_views != 2:
            yield Problem("", f"agreement is of 2 views; the data makes {facts.num_views}")

    def step(self, model: Model, batch: Batch, moment: Moment) -> StepOutput:
        z = model(batch.views, heads=[self.head]).of(self.head)
        first, second = (F.normalize(view, dim=1) for view in z.chunk(2))
        mean = distributed.all_reduce((first + second).mean(dim=0) / 2) / distributed.world_size()
        agreement = (first - second).square().sum(dim=1).mean()
        return StepOutput(loss=agreement + self.spread * mean.square().sum(), logs={"agreement": agreement.detach()})


AgreementLossConf = config_for(AgreementLoss)
'''

RECIPE = '''
"""Agreement on handwritten digits."""

from ssltyped import Experiment, changed
from agreement import AgreementLossConf
from recipes.quickstart import recipe as quickstart


def agreement(*, spread: float = 1.0, steps: int = 3) -> Experiment:
    recipe = changed(quickstart, lambda r: r.loss)(AgreementLossConf(spread=spread))
    recipe = changed(recipe, lambda r: r.epochs)(None)
    recipe = changed(recipe, lambda r: r.steps)(steps)
    return changed(recipe, lambda r: r.callbacks)([])


recipe = agreement()
'''

TEST = """
import pytest
import torch
from agreement import AgreementLoss

from ssltyped.types import Batch, Moment, Outputs


class Flat(torch.nn.Module):
    def forward(self, views, *, masks=(), heads=None, features=()):
        return Outputs({"flat": (torch.cat([view.flatten(1) for view in views]),)})


def test_plain_loops() -> None:
    views = tuple(torch.randn(4, 3, 1, 1, dtype=torch.float64) for _ in range(2))
    u = [[image.flatten() / image.norm() for image in view] for view in views]
    agreement = sum(((a - b) ** 2).sum() for a, b in zip(*u)) / 4
    mean = sum(row for view in u for row in view) / 8
    loss = AgreementLoss(head="flat", spread=0.5)
    got = loss.step(Flat(), Batch(views=views, index=torch.arange(4)), Moment(step=0, steps=1, steps_per_epoch=1))
    assert float(got.loss) == pytest.approx(float(agreement + 0.5 * (mean**2).sum()), rel=1e-12)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mine")
    for name, text in (("agreement.py", METHOD), ("my_recipe.py", RECIPE), ("test_agreement.py", TEST)):
        (path / name).write_text(text.lstrip())
    return path


@pytest.fixture(autouse=True)
def _inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As python does that is started there."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)


def test_it_trains(folder: Path) -> None:
    assert main(["my_recipe", "loss.spread=0.5", "data.train.batch_size=16", "output=runs"]) == 0
    result = json.loads((folder / "runs" / "my_recipe" / "result.json").read_text())
    assert result["metrics"]["agreement"] > 0


def test_its_plan_and_mistakes_are_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["my_recipe", "--plan"]) == 0
    assert "AgreementLoss" in capsys.readouterr().out
    assert main(["my_recipe", "loss.spred=0.5"]) == 2
    assert "did you mean 'spread'" in capsys.readouterr().err
    assert main(["my_recipe", "data.train.views.num_views=3", "--plan"]) == 2
    assert "loss: agreement is of 2 views; the data makes 3" in capsys.readouterr().err


def test_its_own_test_passes() -> None:
    runpy.run_path("test_agreement.py")["test_plain_loops"]()


def test_it_is_type_checked(folder: Path) -> None:
    wrong = RECIPE.replace("spread: float = 1.0", "spread: str = 'much'")
    (folder / "wrong_recipe.py").write_text(wrong.lstrip())
    told = mypy_lines(*(folder / name for name in ("my_recipe.py", "agreement.py", "wrong_recipe.py")))
    errors = [line for line in told if ": error: " in line]
    assert len(errors) == 1, told
    assert errors[0].startswith("wrong_recipe.py:")
    assert 'Argument "spread" has incompatible type "str"; expected "float"' in errors[0]
