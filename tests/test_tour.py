"""The README's tour, each command as it is written there, one after the other, with what it quotes of their output."""

from __future__ import annotations

import re
import runpy
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import timm
import torch
from readme import blocks

from ssltyped.data.digits import Digits, DigitSplit
from ssltyped.data.sources import ImageFolder

ROOT = Path(__file__).parents[1]
STOP_AT = "step 42/"


def tour() -> list[tuple[list[str], list[str]]]:
    """Commands, each with the lines that are quoted of its output; what the stopped one says then is its last line."""
    found: list[tuple[list[str], list[str]]] = []
    for line in "".join(blocks("console")).splitlines():
        if line.startswith("$ "):
            found.append((shlex.split(line[2:]), []))
        elif line.strip():
            found[-1][1].append(line)
    return found


def shape(line: str) -> str:
    """A line without its numbers, which are another machine's."""
    return re.sub(r"\s+", " ", re.sub(r"(\d+:)*\d[\d.,]*(e-?\d+)?", "#", line)).strip()


def missing(quoted: Sequence[str], said: Sequence[str]) -> list[str]:
    """Quoted lines that are not among those that were said, in this order."""
    rest = iter([shape(line) for line in said])
    return [line for line in quoted if line.strip() != "..." and shape(line) not in rest]


def output(command: Sequence[str], folder: Path, *, stopped: bool) -> list[str]:
    """What a command prints; Ctrl-C in the middle of one that is `stopped`."""
    program = str(ROOT / command[1]) if command[1].endswith(".py") else command[1]
    arguments = [sys.executable, program, *command[2:]]
    process = subprocess.Popen(arguments, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if stopped and STOP_AT in line:
            process.send_signal(signal.SIGINT)
            stopped = False
    assert process.wait() in (0, 130)
    return lines


def test_a_shape_keeps_the_words() -> None:
    assert shape("epoch 1  step 0/140  knn 27.46  left 0:05:10") == "epoch # step #/# knn # left #"
    assert missing(["a 1", "  ...", "b 2"], ["a 9", "x", "b 3"]) == []
    assert missing(["b 2", "a 1"], ["a 9", "x", "b 3"]) == ["a 1"]


def test_its_folders_hold_the_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["digits_folder.py", str(tmp_path)])
    runpy.run_path(str(ROOT / "tools" / "digits_folder.py"), run_name="__main__")
    digits, folder = Digits(split=DigitSplit.TEST), ImageFolder(path=tmp_path / "test")
    assert len(list((tmp_path / "train").glob("*/*.png"))) == 1400
    assert folder.classes == digits.classes
    places = {Path(folder.name(place)).stem: place for place in range(len(folder))}
    assert len(places) == len(digits)
    for index in range(0, len(digits), 40):
        place = places[f"{index:04}"]
        assert folder.label(place) == digits.label(index)
        assert torch.equal(folder.read(place), digits.read(index))


@pytest.mark.slow  # the commands are valid: tests/test_readme.py
def test_each_command_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = tour()
    assert len(steps) == 7
    for number, (command, quoted) in enumerate(steps):
        again = number + 1 < len(steps) and steps[number + 1][0] == command
        said = output(command, tmp_path, stopped=again)
        assert not missing(quoted, said), " ".join(command)
    monkeypatch.chdir(tmp_path)
    names: dict[str, torch.nn.Module] = {}
    exec("\n".join(line for line in steps[-1][1] if not line.startswith("simclr.pth")), {"timm": timm}, names)
    assert names["network"].eval()(torch.rand(2, 3, 32, 32)).shape == (2, 512)
