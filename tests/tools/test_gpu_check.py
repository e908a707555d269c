"""tools/gpu_check.py with small parts in the place of its own, which take a minute even on a CPU."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from tools import gpu_check
from tools.gpu_check import BEGIN, DOCS, END, Part, lacks, main, matching, parts, unlearned, written_into


def part(name: str, code: str, limit: float = 60) -> Part:
    said = functools.partial(matching, "images/s")
    return Part(name, ["-c", code], limit, said, functools.partial(lacks, "images/s"))


def making(*made: Part) -> Callable[[str, bool, Path], Sequence[Part]]:
    return lambda device, quick, folder: made


GOOD = part("good", "print('noise'); print('\\x1b[1m12 images/s\\x1b[0m')")
BAD = part("bad", "print('30 images/s', flush=True); raise SystemExit('the card is hot')")
SLOW = part("slow", "import time; print('3 images/s', flush=True); time.sleep(600)", limit=1)
MUTE = part("mute", "print('all is well')")


def test_each_part_has_its_turn_and_its_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "gpu.md"
    assert main(["--device", "cpu", "--write", str(out)], making(BAD, SLOW, MUTE, GOOD)) == 1
    text, printed = out.read_text(), capsys.readouterr().out
    for row in ("| bad | failed with exit code 1 |", "| slow | ended at its limit of 1 s |", "| good | passed |"):
        assert row in text
        assert row in printed
    assert "| mute | there is no 'images/s' in what it said |" in text
    assert "30 images/s\n...\n30 images/s\nthe card is hot\n" in text
    assert "good:\n\n```\n12 images/s\n```" in text
    assert f"torch {torch.__version__}" in text


def test_all_passed_is_0(tmp_path: Path) -> None:
    before = DOCS.read_text()
    assert main(["--device", "cpu"], making(GOOD)) == 0
    assert DOCS.read_text() == before, "a CPU is no result"


@pytest.mark.skipif(torch.cuda.is_available(), reason="is of a machine without a card")
def test_without_a_card_nothing_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], making(BAD)) == 0
    assert capsys.readouterr().out.startswith("skipped: torch ")


def test_a_section_takes_the_place_of_an_older_one_of_the_same_card() -> None:
    document = f"# About\n\n{BEGIN}\n\nnot yet\n\n{END}\n\nmore\n"
    first = written_into(document, "### A\n\nfirst\n")
    assert first == f"# About\n\n{BEGIN}\n\n### A\n\nfirst\n\n{END}\n\nmore\n"
    both = written_into(written_into(document, "### A\n\nold\n"), "### B\n\nother\n")
    again = written_into(both, "### A\n\nnew\n")
    assert again == f"# About\n\n{BEGIN}\n\n### A\n\nnew\n\n### B\n\nother\n\n{END}\n\nmore\n"


def test_what_says_that_it_learned() -> None:
    said = "  untrained trunk   13.6 %\n  trained trunk     74.4 %\n"
    assert unlearned(20, said) == ""
    assert unlearned(70, said) == "the accuracy rose by 60.8 points, and should by 70"
    assert unlearned(20, "Killed") == "it said no accuracies"


def test_all_parts_fit_into_8_minutes(tmp_path: Path) -> None:
    assert sum(one.limit for one in parts("cuda", False, tmp_path)) < 8 * 60
    assert all((gpu_check.ROOT / one.command[0]).exists() for one in parts("cuda", False, tmp_path)[1:])


@pytest.mark.slow
def test_the_parts_themselves_on_the_cpu(tmp_path: Path) -> None:
    out = tmp_path / "gpu.md"
    assert main(["--device", "cpu", "--quick", "--write", str(out)]) == 0, out.read_text()
    assert "trained trunk" in out.read_text()
    assert "median ratio of images/s" in out.read_text()
