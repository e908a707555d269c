"""Does all of it work on this GPU? The tests marked `gpu`, the quickstart, and a recipe's step beside a plain loop.

    python tools/gpu_check.py                      # on one card, in under 8 minutes
    python tools/gpu_check.py --device cpu --quick # what of it a CPU can do, in a minute: is the script itself right?

Prints a Markdown section with the card's name, driver, versions, date, and what each part showed in how many seconds,
and writes it into docs/gpu.md, in the place of an older one of the same card and versions (--write PATH: into a copy of
it there). Each part is a process with a time limit; one that fails does not keep the others from their turn. Exit code
0 if all passed, and where there is no CUDA device, which is said; else 1.

Needs the checkout (nothing is installed from it, nothing downloaded) and Python >= 3.11 with: torch, torchvision,
torchmetrics, hydra-zen, hydra-core, omegaconf, antlr4-python3-runtime, pydantic, annotated-types, jaxtyping, numpy,
opencv-python-headless, pillow, scikit-learn, rich, tensorboard; pytest and beartype for the tests.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import functools
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Optional

import torch

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "gpu.md"
BEGIN, END = "<!-- written by tools/gpu_check.py: begin -->", "<!-- end -->"
LIBRARIES = ("torch", "torchvision", "torchmetrics", "hydra-zen", "omegaconf", "pydantic", "jaxtyping", "numpy")
SHOWN = 20
"""Lines of the output of a part that failed."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One process.

    Args:
        name: what it shows.
        command: after `python`.
        limit: seconds, after which it is ended.
        said: from its output, the lines that tell what it found.
        wrong: what is wrong with an output although the process ended well; empty if nothing.
    """

    name: str
    command: Sequence[str]
    limit: float
    said: Callable[[str], Sequence[str]]
    wrong: Callable[[str], str]


@dataclasses.dataclass(frozen=True)
class Result:
    """How a part ended."""

    name: str
    passed: bool
    verdict: str
    seconds: float
    lines: Sequence[str]


def matching(pattern: str, output: str) -> list[str]:
    """The lines in which the pattern is, without what a terminal makes of them."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)
    return [line.strip() for line in plain.splitlines() if re.search(pattern, line)]


def lacks(pattern: str, output: str) -> str:
    """Why an output without this pattern is wrong."""
    return "" if re.search(pattern, output) else f"there is no {pattern!r} in what it said"


def unlearned(least: float, output: str) -> str:
    """Why the kNN accuracies of a run do not show that it learned so many points."""
    found = {name: float(value) for name, value in re.findall(r"(untrained|trained) trunk +([\d.]+) %", output)}
    if found.keys() != {"untrained", "trained"}:
        return "it said no accuracies"
    rise = found["trained"] - found["untrained"]
    return "" if rise >= least else f"the accuracy rose by {rise:.1f} points, and should by {least:g}"


def parts(device: str, quick: bool, folder: Path) -> list[Part]:
    """What is run: together at most 7 minutes 40 seconds."""
    quickstart = ["tools/quickstart.py", f"distributed.device={device}", f"output={folder / 'quickstart'}"]
    step = ["tools/bench/step_overhead.py", "--recipe", "simclr_1gpu", "--device", device]
    small = "--pairs 1 --steps 2 --block 2 --batch-size 4 --size 32"
    size = small if quick else "--pairs 3 --steps 20 --block 10"
    return [
        Part(
            name="tests marked `gpu`",
            command=["-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu", "tests/gpu"],
            limit=250,
            said=functools.partial(matching, r"^(FAILED|ERROR|SKIPPED)|^E  |\d (passed|failed|skipped)"),
            wrong=functools.partial(lacks, r"\d passed" if device == "cuda" else r"\d skipped"),
        ),
        Part(
            name="`make quickstart`",
            command=[*quickstart, *(["epochs=1", "callbacks.5.every_epochs=1"] if quick else [])],
            limit=100,
            said=functools.partial(matching, r"kNN accuracy|raw pixels|untrained trunk|trained trunk"),
            wrong=functools.partial(unlearned, -100 if quick else 20),
        ),
        Part(
            name="images/s of `recipes.simclr_1gpu`'s step from memory",
            command=[*step, *size.split()],
            limit=110,
            said=functools.partial(matching, r"images/s|peak memory"),
            wrong=functools.partial(lacks, "median ratio"),
        ),
    ]


def run(part: Part) -> Result:
    """The part in a process of its own, ended with all that it started at its limit."""
    begun = time.monotonic()
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        [sys.executable, *part.command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=part.limit)
        verdict = f"failed with exit code {process.returncode}" if process.returncode else part.wrong(output)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        output, _ = process.communicate()
        verdict = f"ended at its limit of {part.limit:g} s"
    lines = [*part.said(output), *(["...", *output.splitlines()[-SHOWN:]] if verdict else [])]
    return Result(part.name, not verdict, verdict or "passed", time.monotonic() - begun, lines)


def title(device: str) -> str:
    """What it ran on, which no two sections share."""
    name = torch.cuda.get_device_name() if device == "cuda" else "no card: the CPU"
    return f"{name}, torch {torch.__version__}, Python {platform.python_version()}"


def driver() -> str:
    """The version of the card's driver, which torch does not tell."""
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "not known"


def versions() -> str:
    """Of the libraries that are here."""
    found = {name: _version(name) for name in LIBRARIES}
    return ", ".join(f"{name} {version}" for name, version in found.items())


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "is not there"


def section(device: str, quick: bool, results: Sequence[Result]) -> str:
    """All that was seen, in Markdown."""
    today = datetime.datetime.now(datetime.UTC).date()
    about = f"driver {driver()}, CUDA {torch.version.cuda}" if device == "cuda" else "no driver"
    rows = [f"| {one.name} | {one.verdict} | {one.seconds:.0f} |" for one in results]
    shown = [f"{one.name}:\n\n```\n{chr(10).join(one.lines) or '(it said nothing)'}\n```\n" for one in results]
    lines = [
        f"### {title(device)}",
        "",
        f"{today}{', shortened (`--quick`)' if quick else ''}; {about}; {versions()}.",
        "",
        "| part | result | seconds |",
        "|---|---|---|",
        *rows,
        "",
        *shown,
    ]
    return "\n".join(lines)


def written_into(document: str, new: str) -> str:
    """The document with this section, the newest first, and without what it replaces."""
    before, _, rest = document.partition(BEGIN)
    old, _, after = rest.partition(END)
    heading = new.splitlines()[0]
    others = re.split(r"^(?=### )", old, flags=re.MULTILINE)[1:]
    kept = [other for other in others if other.splitlines()[0] != heading]
    return f"{before}{BEGIN}\n\n{chr(10).join(part.strip() + chr(10) for part in [new, *kept])}\n{END}{after}"


def main(arguments: Optional[Sequence[str]] = None, make: Callable[[str, bool, Path], Sequence[Part]] = parts) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: to try the script")
    parser.add_argument("--quick", action="store_true", help="one epoch, a small batch")
    parser.add_argument("--write", type=Path, help="a copy of docs/gpu.md; of a card the default is docs/gpu.md itself")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print(f"skipped: torch {torch.__version__} sees no CUDA device here")
        return 0
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for part in make(options.device, options.quick, Path(folder)):
            print(f"{part.name} (at most {part.limit:g} s) ...", flush=True)
            results.append(run(part))
            print(f"  {results[-1].verdict} after {results[-1].seconds:.0f} s", flush=True)
    text = section(options.device, options.quick, results)
    print(f"\n{text}")
    if path := options.write or (DOCS if options.device == "cuda" else None):
        path.write_text(written_into(DOCS.read_text(), text))
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
