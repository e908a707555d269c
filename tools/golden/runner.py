"""Run recorded cases of VISSL through ssltyped.

    python -m tools.golden INDEX.json [--vissl-configs DIR] [--only COMPONENT]

Every case of the index (its arrays lie beside it) goes through the adapter of its component, and what comes out must
be what was recorded, within the tolerance of the case. A case that recorded a named bug of VISSL is excused; where it
can be, the bug is put back and all the rest compared. Whole models are composed from the YAML files below
`--vissl-configs`; a case that names a file which is not there is not run. Prints how many cases of each component
passed, failed, are excused and were not run, and why. Exit code 1: a case failed, or no adapter knows its component;
2: the index cannot be read.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Optional, cast

import torch
from pydantic import JsonValue
from torch import Tensor

from tools.golden import data, evals, heads, losses, models, other, teachers
from tools.golden.arrays import (
    Adapter,
    Arrays,
    BrokenIndexError,
    Bug,
    Case,
    Index,
    Inputs,
    Tree,
    differences,
    load,
    read_listings,
    unchecked,
)
from tools.golden.fill import fill
from tools.golden.ranks import check_on_ranks, failure

MODULES = (losses, teachers, heads, data, evals, other)
ADAPTERS: Mapping[str, Adapter] = {name: adapter for module in MODULES for name, adapter in module.ADAPTERS.items()}
BUGS: Mapping[str, Sequence[Bug]] = {name: bugs for module in MODULES for name, bugs in module.BUGS.items()}


MODELS = {
    "trunk_forward": models.trunk_forward,
    "model_forward": models.model_forward,
    "train_steps": models.train_steps,
}
LISTING = "trunk_listing"
CONFIGS = "vissl_configs"
HINT = "give --vissl-configs"


class Status(Enum):
    """How a case ended."""

    PASSED = "passed"
    FAILED = "failed"
    EXCUSED = "excused"
    NOT_RUN = "not run"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a case ended and why; of a passed one, what was not compared."""

    id: str
    kind: str
    status: Status
    reasons: Sequence[str] = ()


def of_kind(case: Case) -> str:
    """What the adapter and the bugs of a case are found by: its component and name, or its component."""
    name = f"{case.component}/{case.name}"
    return name if name in ADAPTERS else case.component


def inputs_of(case: Case, arrays: Arrays) -> Inputs:
    """The arrays of a case (of one rank)."""
    tree, want = arrays.tree(case.inputs), arrays.tree(case.wanted())
    assert isinstance(tree, dict)
    assert isinstance(want, dict)
    return Inputs(tree, want)


def bug_of(case: Case, arrays: Arrays) -> Optional[Bug]:
    """The bug of VISSL that this case recorded."""
    bugs = BUGS.get(of_kind(case), ())
    if not bugs:
        return None
    seen = case.of_rank(0) if case.world_size == 2 else case
    x = inputs_of(seen, arrays)
    return next((bug for bug in bugs if bug.shows(seen, x)), None)


def check(case: Case, arrays: Arrays) -> list[str]:
    """What is wrong with one case (of one rank); parts that are not compared start with `part: `."""
    return compared(case, arrays, ADAPTERS[of_kind(case)])


def compared(case: Case, arrays: Arrays, adapter: Adapter) -> list[str]:
    """What is wrong with what an adapter gives."""
    torch.manual_seed(0)
    x = inputs_of(case, arrays)
    try:
        got = adapter(case, x)
    except Exception as error:  # whatever an adapter raises is the fault of one case
        return [failure(error)]
    faults = differences(x.recorded.tree, got, case.tol)
    return [*faults, *(f"part: {reason}" for reason in dict.fromkeys(unchecked(got)))]


def check_model(case: Case, raw: models.RawCase, arrays: Arrays, configs: Path) -> Outcome:
    """A whole model or trunk, composed from VISSL's YAML."""
    for component, shows, says in models.EXCUSED:
        if component == case.component and shows(raw):
            return Outcome(case.id, case.kind, Status.EXCUSED, [says])
    if lacking := models.lacking(raw, configs):
        return Outcome(case.id, case.kind, Status.NOT_RUN, [f"{lacking}: {HINT}"])

    def leaf(node: JsonValue) -> Tensor:
        return torch.as_tensor(arrays.tree(node))

    def adapter(case: Case, x: Inputs) -> Mapping[str, Tree]:
        return cast("Mapping[str, Tree]", MODELS[case.component](raw, leaf, configs, fill))

    return outcome(case, None, compared(case, arrays, adapter))


def check_listings(index: Index, configs: Path) -> Iterator[Outcome]:
    """The trunks that were listed in the files beside the index."""
    for name in index.json_files:
        for case in read_listings(index.folder / name) if name.startswith("trunks") else ():
            name = str(case.get("id", case.get("variant")))
            if lacking := models.lacking(case, configs):
                yield Outcome(name, LISTING, Status.NOT_RUN, [f"{lacking}: {HINT}"])
                continue
            try:
                wrong = models.trunk_listing(case, configs)
            except Exception as error:  # whatever it raises is the fault of one case
                wrong = [failure(error)]
            yield Outcome(name, LISTING, Status.FAILED if wrong else Status.PASSED, wrong)


def outcome(case: Case, bug: Optional[Bug], found: Sequence[str]) -> Outcome:
    """How a case that was run, and recorded this bug, ended."""
    faults = [line for line in found if "part: " not in line]
    parts = list(dict.fromkeys(line.partition("part: ")[2] for line in found if "part: " in line))
    if faults:
        return Outcome(case.id, case.kind, Status.FAILED, faults)
    if bug is not None:
        return Outcome(case.id, case.kind, Status.EXCUSED, [f"{bug.says}; agrees with the bug put back", *parts])
    return Outcome(case.id, case.kind, Status.PASSED, parts)


def run(index: Index, cases: Sequence[Case], configs: Path) -> Iterator[Outcome]:
    """The outcome of every case."""
    arrays = Arrays(index.folder)
    together: list[tuple[Case, Optional[Bug]]] = []
    for case in cases:
        if case.component in MODELS:
            yield check_model(case, index.raw[case.id], arrays, configs)
            continue
        if of_kind(case) not in ADAPTERS:
            yield Outcome(case.id, case.kind, Status.FAILED, [f"no adapter knows {case.component}/{case.name}"])
            continue
        try:
            bug = bug_of(case, arrays)
        except (TypeError, ValueError, KeyError) as error:
            yield Outcome(case.id, case.kind, Status.FAILED, [failure(error)])
            continue
        if bug is not None and not bug.put_back:
            yield Outcome(case.id, case.kind, Status.EXCUSED, [bug.says])
        elif case.world_size == 1:
            yield outcome(case, bug, check(case, arrays))
        elif bug is not None and bug.alone:
            yield outcome(case, bug, [line for rank in range(2) for line in check(case.of_rank(rank), arrays)])
        else:
            together.append((case, bug))
    if together:
        found = check_on_ranks([case for case, _ in together], index.folder, check)
        yield from (outcome(case, bug, found[case.id]) for case, bug in together)


def report(outcomes: Sequence[Outcome]) -> str:
    """A line a component, and the reason of each case that did not simply pass."""
    kinds = sorted({outcome.kind for outcome in outcomes})
    width = max(map(len, [*kinds, "total"]), default=5)
    lines = [f"{'component':{width}}  passed  failed  excused  not run"]
    for kind in [*kinds, "total"]:
        of_it = [outcome for outcome in outcomes if kind in (outcome.kind, "total")]
        passed, failed, excused, not_run = (sum(one.status is status for one in of_it) for status in Status)
        lines.append(f"{kind:{width}}  {passed:6}  {failed:6}  {excused:7}  {not_run:7}")
        if kind != "total":
            lines += [f"    {_word(one)} {one.id}: {reason}" for one in of_it for reason in one.reasons]
    return "\n".join(lines)


def _word(outcome: Outcome) -> str:
    return "not compared in" if outcome.status is Status.PASSED else outcome.status.value


def configs_of(index: Index, given: Optional[Path]) -> Path:
    """Where VISSL's YAML files are."""
    if given is not None and not given.is_dir():
        raise BrokenIndexError(f"--vissl-configs {given}: no such folder")
    beside = index.folder / CONFIGS
    return given or (beside if beside.is_dir() else Path(__file__).parents[2] / "tests" / "golden" / CONFIGS)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path, help="the golden index; its arrays lie beside it")
    parser.add_argument(
        "--vissl-configs",
        type=Path,
        help=f"the folder of VISSL's YAML files; by default {CONFIGS} beside the index, or that of our tests",
    )
    parser.add_argument("--only", default="", help="a component, such as loss, or loss/swav_loss")
    options = parser.parse_args(arguments)
    torch.set_num_threads(min(torch.get_num_threads(), 2))
    try:
        index = load(options.index)
        configs = configs_of(index, options.vissl_configs)
        cases = [case for case in index.cases if asked_for(case.kind, options.only)]
        outcomes = list(run(index, cases, configs))
        if asked_for(LISTING, options.only):
            outcomes += check_listings(index, configs)
    except BrokenIndexError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not outcomes:
        kinds = sorted({case.component for case in index.cases} | {LISTING})
        print(f"error: --only {options.only}: no such case; there are {', '.join(kinds)}", file=sys.stderr)
        return 2
    print(report(outcomes))
    return 1 if any(outcome.status is Status.FAILED for outcome in outcomes) else 0


def asked_for(kind: str, only: str) -> bool:
    return not only or f"{kind}/".startswith(f"{only.rstrip('/')}/")
