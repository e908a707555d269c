"""The board: intervals, what counts as learned, what is run again, and the loop beside ours."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from recipes.small.base import DIGITS
from ssltyped import launch
from ssltyped.config import replaced, to_yaml
from ssltyped.losses.simclr import SimCLRLoss
from ssltyped.model.model import SSLModel
from ssltyped.types import Batch, Loss
from tools import board, board_lightly
from tools.board_page import Board, estimate, knn, page
from tools.board_runs import Job, Row, Side, accuracies, run


def rows(side: Side, method: str, values: Sequence[float], **more: float) -> list[Row]:
    return [Row(side.value, method, seed, f"{seed}", value, value, **more) for seed, value in enumerate(values)]  # type: ignore[arg-type]  # of numbers only


def test_an_interval_covers_the_mean_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    drawn = [estimate(list(random.normal(50.0, 3.0, 5))) for _ in range(2000)]
    share = np.mean([one.low <= 50 <= one.high for one in drawn])
    assert share == pytest.approx(0.95, abs=0.015)


def test_an_interval_is_student_s() -> None:
    values = [40.0, 42.0, 47.0]
    # t of 2 degrees of freedom at 0.975, from any table, times the standard error
    assert estimate(values)[:2] == pytest.approx((43.0, 4.302653 * np.std(values, ddof=1) / 3**0.5))
    assert str(estimate([41.26])) == "41.3"


@pytest.fixture
def made() -> Board:
    told = dataclasses.replace(rows(Side.OURS, "moco", [50.0])[0], seed=9, warnings=("warning: it collapsed",))
    return Board(
        [
            *rows(Side.OURS, "simclr", [60.0, 62.0, 61.0], steps=280, cpu_s=30.0, steps_per_s=9.0),
            *rows(Side.LIGHTLY, "simclr", [59.0, 62.0, 60.0], steps_per_s=10.0),
            *rows(Side.OURS, "moco", [20.0, 45.0, 55.0]),
            told,
            *rows(Side.UNTRAINED, "moco", [30.0, 31.0, 29.0, 30.0]),
            *rows(Side.SETTLED, "moco", [15.0, 14.0, 15.0, 14.0]),
        ],
        {"simclr": "moco", "moco": "moco"},
        20,
    )


def test_learned_is_what_is_apart_from_a_start(made: Board) -> None:
    assert made.start(Side.UNTRAINED, "simclr", knn).mean == 30.0
    assert made.methods == ["simclr", "moco"]
    assert made.learned("simclr", knn, Side.UNTRAINED, Side.SETTLED)
    assert made.learned("moco", knn, Side.SETTLED)
    assert not made.learned("moco", knn, Side.SETTLED, Side.UNTRAINED)
    one_seed = Board(made.of(Side.OURS, "simclr")[:1] + made.of(Side.UNTRAINED, "moco"), {"simclr": "moco"}, 20)
    assert not one_seed.learned("simclr", knn, Side.UNTRAINED)  # nothing is known of it


def test_a_page_shows_them(made: Board) -> None:
    text = "\n".join(page(made))
    assert "| simclr | 3 | **61.0 ± 2.5** | **61.0 ± 2.5** | 280 | 30 |" in text
    assert "| moco | 4 | *42.5 ± 24.7* | *42.5 ± 24.7* | 0 | 0 |" in text
    assert "| simclr, moco | 30.0 ± 1.3 | 14.5 ± 0.9 | 30.0 ± 1.3 | 14.5 ± 0.9 |" in text
    assert "| simclr | 61.0 ± 2.5 | 60.3 ± 3.8 | 61.0 ± 2.5 | 60.3 ± 3.8 | 9.0 | 10.0 |" in text
    assert "- moco, 20 epochs, seed 9: warning: it collapsed" in text


def test_what_is_there_is_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, job = tmp_path / "new" / "board.jsonl", Job(Side.PIXELS, "simclr", 0)
    assert not board.fill(path, [job], 1)
    (row,) = board.read(path)
    path.write_text(path.read_text() + '{"side": "pix')  # of a machine that went down
    assert not board.fill(path, [job], 1)
    assert "1 of 1 are in" in capsys.readouterr().out
    assert list(board.read(path)) == [row]
    assert row.knn == pytest.approx(57.68, abs=0.01)  # what the quickstart says of raw pixels


def test_one_that_fails_does_not_take_the_others_along(tmp_path: Path) -> None:
    lost, kept = Job(Side.LIGHTLY, "rotnet", 0), Job(Side.PIXELS, "simclr", 0)  # lightly has no such loss
    failed = board.fill(tmp_path / "board.jsonl", [lost, kept], 1)
    assert list(failed) == [lost]
    assert [row.side for row in board.read(tmp_path / "board.jsonl")] == ["pixels"]


def test_a_page_is_of_all_rows_of_the_recipes_as_they_are() -> None:
    rows = [
        Row("ssltyped", method, seed, Job(Side.OURS, method, seed).hash, 50.0, 50.0)
        for method in ("moco", "simclr")
        for seed in (0, 4)
    ]
    changed = dataclasses.replace(rows[0], hash="of another recipe")
    gone = dataclasses.replace(rows[0], method="gone")
    assert board.current([changed, *rows, gone]) == rows
    assert not board.current([dataclasses.replace(row, epochs=1) for row in rows])


def test_another_number_of_epochs_has_a_table_of_its_own() -> None:
    start = rows(Side.UNTRAINED, "moco", [30.0, 31.0])
    longer = [dataclasses.replace(row, epochs=200) for row in rows(Side.OURS, "moco", [50.0, 51.0], cpu_s=300.0)]
    both = board.boards([*longer, *rows(Side.OURS, "simclr", [40.0, 41.0]), *start])
    assert [(one.epochs, one.methods) for one in both] == [(20, ["simclr"]), (200, ["moco"])]
    assert all(one.of(Side.UNTRAINED, "moco") == start for one in both)
    text = "\n".join(page(*both))
    assert text.index("| simclr | 2 |") < text.index("## 200 epochs") < text.index("| moco | 2 |")


def test_a_run_stands_in_a_folder_of_all_that_is_asked_for() -> None:
    teacher, student = Job(Side.OURS, "swav", 2), Job(Side.OURS, "distillation", 2)
    assert student.before == teacher
    assert str(teacher.folder) in to_yaml(student.recipe)
    other = dataclasses.replace(student, dials=dataclasses.replace(DIGITS, epochs=3))
    assert other.folder != student.folder
    assert other.before is not None
    assert other.before.folder != teacher.folder


@pytest.mark.parametrize("arguments", [["--seeds", "0"], ["--epochs", "-1"], ["--jobs", "0"], ["--methods", "simcrl"]])
def test_what_cannot_be_asked_for(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        board.main(arguments)


def test_a_hash_is_of_all_that_is_asked_for() -> None:
    job = Job(Side.OURS, "simclr", 0)
    longer = dataclasses.replace(DIGITS, epochs=21)
    others = [
        dataclasses.replace(job, **change)
        for change in ({"seed": 1}, {"method": "moco"}, {"side": Side.LIGHTLY}, {"dials": longer})
    ]
    hashes = [one.hash for one in (job, *others)]
    assert len(set(hashes)) == len(hashes)
    assert Job(Side.OURS, "simclr", 0).hash == job.hash


def test_what_has_to_be_done() -> None:
    jobs = list(board.jobs_of(["distillation", "clusterfit", "swav", "ibot"], range(2), DIGITS, lightly=True))
    ours = [job.method for job in jobs if job.side is Side.OURS and job.seed == 0]
    assert ours == ["distillation", "clusterfit", "swav", "ibot"]
    waiting = [(job.method, job.before.method) for job in jobs if job.before is not None and job.seed == 0]
    assert waiting == [("distillation", "swav"), ("clusterfit", "clusterfit_clusters")]
    assert [job.method for job in jobs if job.side is Side.LIGHTLY] == ["swav", "swav"]
    starts = {job.method for job in jobs if job.side is Side.UNTRAINED}
    assert len(starts) == 3  # of a ResNet, one of half its width, and a transformer


def test_separable_rows_are_told_apart_and_labels_that_mean_nothing_are_not() -> None:
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 10
    apart = torch.nn.functional.one_hot(labels, 10).float() + 0.1 * torch.randn(200, 10, generator=random)
    shuffled = labels[torch.randperm(200, generator=random)]
    assert accuracies((apart[:150], labels[:150]), (apart[150:], labels[150:]), seed=0) == (100.0, 100.0)
    assert max(accuracies((apart[:150], shuffled[:150]), (apart[150:], shuffled[150:]), seed=0)) < 30


def test_an_untrained_trunk_is_another_with_settled_statistics() -> None:
    fresh, settled = (run(Job(side, "simclr", 0)) for side in (Side.UNTRAINED, Side.SETTLED))
    assert fresh.hash != settled.hash
    assert fresh.knn > settled.knn + 5


def test_the_loop_beside_is_ours_but_for_the_loss(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def our_loss(loss: Loss, model: SSLModel) -> board_lightly.Plain:
        assert isinstance(loss, SimCLRLoss)
        empty = torch.zeros(0, dtype=torch.int64)
        return board_lightly.Plain(
            lambda views, moment: loss.step(model, Batch(views=views, index=empty), moment).loss, model
        )

    monkeypatch.setitem(board_lightly.METHOD, "simclr", our_loss)
    few = dataclasses.replace(DIGITS, epochs=1, width=0.0625)
    recipe = replaced(Job(Side.OURS, "simclr", 3, few).recipe, {"output": tmp_path, "callbacks": []})
    theirs = board_lightly.train("simclr", recipe)
    ours = launch(recipe).model.trunk.state_dict()
    assert theirs.steps == 14
    assert ours.keys() == theirs.trunk.state_dict().keys()
    for name, value in theirs.trunk.state_dict().items():
        torch.testing.assert_close(value, ours[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("method", list(board_lightly.METHOD))
def test_every_loss_beside_gets_the_outputs_of_both_views(
    method: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In the place of lightly's, which is not installed here, one that looks at what it is given."""
    given: list[list[torch.Tensor]] = []

    def stand_in(name: str, **settings: object) -> Callable[..., torch.Tensor]:
        def loss(*outputs: torch.Tensor | list[torch.Tensor], **more: object) -> torch.Tensor:
            flat = [one for group in outputs for one in (group if isinstance(group, list) else [group])]
            given.append(flat)
            return torch.stack([one.square().mean() for one in flat]).sum()

        return loss

    monkeypatch.setattr(board_lightly, "_theirs", stand_in)
    few = dataclasses.replace(DIGITS, epochs=1, width=0.0625)
    recipe = replaced(Job(Side.OURS, method, 0, few).recipe, {"output": tmp_path, "callbacks": []})
    board_lightly.train(method, recipe)
    width = {"swav": 280, "dino": 280, "barlow_twins": 256}.get(method, 64)
    assert len(given) == 14
    assert {one.shape for one in given[0]} == {(100, width)}
    learns = [one.requires_grad for one in given[0]]
    assert learns == {"moco": [True, False], "dino": [False, False, True, True]}.get(method, [True, True])


def test_seeds_start_from_other_trunks() -> None:
    starts = [run(Job(Side.UNTRAINED, "simclr", seed)).knn for seed in range(2)]
    assert all(one != other for one, other in itertools.pairwise(starts))
