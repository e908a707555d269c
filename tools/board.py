"""Trains every recipe of recipes/small and fills docs/board.md: does it learn, with how much luck, and beside others?

    python -m tools.board --docs runs/board        # one seed of each method, two runs at a time: `make board`
    python -m tools.board --seeds 5 --lightly      # what docs/board.md is made of, an hour or two
    python -m tools.board --methods simclr moco --seeds 3 --epochs 5 --docs /tmp/try
    python -m tools.board --methods dino --seeds 3 --epochs 200    # a table of its own on the same page

Rows are kept in board.jsonl as they are done, and what is there with the same hash (of the whole recipe, the seed and
the measure) is not run again: the same command goes on after Ctrl-C or a crash, in the middle of a run too. A change
of the code is not seen by it: take the rows out of the file to run them again. The page shows all rows of the recipes
as they are now, whatever was asked for. Exit code 1 when a run failed.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import multiprocessing
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Optional

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `python tools/board.py`

import recipes.small
from recipes.small.base import DIGITS, Dials
from ssltyped.config.hints import failure
from ssltyped.model.files import write_text
from tools import board_lightly
from tools.board_page import PICTURE, Board, draw, page
from tools.board_runs import Interrupted, Job, Row, Side, baselines, run

UNTRAINED_SEEDS = 20
"""They take seconds, and differ more from seed to seed than what was trained."""


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=_positive, default=1, help="runs of each method, with the seeds 0, 1, ...")
    parser.add_argument("--methods", nargs="+", choices=methods(), default=methods(), metavar="METHOD")
    parser.add_argument("--lightly", action="store_true", help="the same by lightly's losses, which is installed aside")
    parser.add_argument("--epochs", type=_positive, default=DIGITS.epochs)
    parser.add_argument("--jobs", type=_positive, default=2, help="runs at a time")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where board.md and its rows are")
    options = parser.parse_args(arguments)
    dials = dataclasses.replace(DIGITS, epochs=options.epochs)
    jobs = list(jobs_of(options.methods, range(options.seeds), dials, lightly=options.lightly))
    if options.lightly:
        board_lightly.install()
    path = options.docs / "board.jsonl"
    failed = fill(path, jobs, options.jobs)
    if made := boards(current(read(path))):
        write_text(options.docs / "board.md", "\n".join(page(*made)) + "\n")
        draw(made[0], options.docs / PICTURE)
        print(f"written: {options.docs / 'board.md'}")
    for job, reason in failed.items():
        print(f"failed: {job.side.value} {job.method} seed {job.seed}: {reason}", file=sys.stderr)
    return 1 if failed else 0


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"got {text}: 1 or more")
    return number


def current(rows: Iterable[Row]) -> list[Row]:
    """Those that would not be run again: of recipes as they are now. The last one counts of several."""
    known = methods()
    found = {row.hash: row for row in rows if row.method in known}
    return [row for row in found.values() if _job(row).hash == row.hash]


def _job(row: Row) -> Job:
    return Job(Side(row.side), row.method, row.seed, dataclasses.replace(DIGITS, epochs=row.epochs))


def boards(rows: Sequence[Row]) -> list[Board]:
    """One for each number of epochs, that of the recipes first; what is not trained is on all of them."""
    first = starts()
    trained = [row for row in rows if Side(row.side) in (Side.OURS, Side.LIGHTLY)]
    others = [row for row in rows if row not in trained]
    lengths = sorted({row.epochs for row in trained}, key=lambda epochs: (epochs != DIGITS.epochs, epochs))
    return [Board([row for row in trained if row.epochs == one] + others, first, one) for one in lengths]


def methods() -> list[str]:
    """The recipes in recipes/small."""
    return [name for _, name, _ in pkgutil.iter_modules(recipes.small.__path__) if name != "base"]


def starts() -> dict[str, str]:
    """Of each method, the one under whose name their untrained trunk is measured."""
    return baselines({name: Job(Side.OURS, name, 0).asked for name in methods()})


def jobs_of(names: Sequence[str], seeds: Sequence[int], dials: Dials, *, lightly: bool) -> Iterator[Job]:
    """What has to be done."""
    first = starts()
    yield Job(Side.PIXELS, methods()[0], 0)
    for name in dict.fromkeys(first[name] for name in names):
        for seed in range(UNTRAINED_SEEDS):
            yield Job(Side.UNTRAINED, name, seed)
            yield Job(Side.SETTLED, name, seed)
    for seed in seeds:
        for name in names:
            yield Job(Side.OURS, name, seed, dials)
            if lightly and name in board_lightly.METHOD:
                yield Job(Side.LIGHTLY, name, seed, dials)


def fill(path: Path, jobs: Sequence[Job], at_once: int) -> dict[Job, str]:
    """Run those of the jobs that the file has no rows of, and add these to it; which failed, and why."""
    have = {row.hash for row in read(path)}
    missing = [job for job in jobs if job.hash not in have]
    print(f"{len(jobs) - len(missing)} of {len(jobs)} are in {path}", flush=True)
    failed = dict[Job, str]()
    path.parent.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with path.open("a") as file, ProcessPoolExecutor(at_once, mp_context=context) as pool:
        try:
            for later in (False, True):  # what others stand on is done before these begin
                running = {pool.submit(run, job): job for job in missing if (job.before is not None) is later}
                for future in as_completed(running):
                    job = running[future]
                    where = f"{job.side.value} {job.method} seed {job.seed}"
                    try:
                        row = future.result()
                    except Interrupted:
                        raise
                    except Exception as error:  # whatever became of it: the others go on
                        failed[job] = failure(error)
                        print(f"{where}: {failed[job]}", flush=True)
                        continue
                    file.write(row.write())
                    file.flush()
                    print(f"{where}  knn {row.knn:.1f}  linear {row.linear:.1f}  {row.cpu_s:.0f} CPU-s", flush=True)
        except (KeyboardInterrupt, Interrupted):
            pool.shutdown(cancel_futures=True)
            print("stopped; the same command goes on", flush=True)
            raise SystemExit(130) from None
    return failed


def read(path: Path) -> Iterator[Row]:
    """The rows of a file; none if there is none. A line that was cut when the machine went down is none."""
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text().splitlines():
            if line.endswith("}"):
                yield Row.read(line)


if __name__ == "__main__":
    raise SystemExit(main())
