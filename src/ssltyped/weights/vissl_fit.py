"""Which of VISSL's heads in a file is which of ours: found by names and shapes, in their order."""

import re
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor, nn

from ssltyped.types import Head, as_named
from ssltyped.weights.layout import Found
from ssltyped.weights.vissl_heads import names_of

_NUMBERED = re.compile(r"(\d+(?:\.\d+)?)\.")


def heads_of(root: nn.Module) -> Iterator[tuple[str, Head]]:
    """The heads of a model that VISSL has too, by their paths; of several in a row each one."""
    found: list[str] = []
    for path, module in root.named_modules():
        name = as_named(path)
        outside = not any(path.startswith(f"{outer}.") for outer in found)
        if name.startswith("heads.") and isinstance(module, Head) and outside and names_of(module):
            found.append(path)
            yield name, module


def heads_found(root: nn.Module, theirs: Mapping[str, Tensor]) -> Found:
    """Entries of VISSL's heads, `0.clf.0.weight` ..., by our names, `heads.projector.layers.0.weight` ...

    The heads of the model, in their order, each take the first of theirs that is left and has all of its names with
    their shapes; if there is none the first that has its names.
    """
    left = list(dict.fromkeys(number for name in theirs for number in _numbers(name)))
    entries: dict[str, Tensor] = {}
    used: set[str] = set()
    for path, head in heads_of(root):
        number, found = _best(head, left, theirs)
        if number is None:
            continue
        left = [one for one in left if one != number]
        entries |= {f"{path}.{name}": value for name, value in found.entries.items()}
        used |= {name for name in theirs if name.startswith(f"{number}.")} - {f"{number}.{one}" for one in found.rest}
    return Found(entries, tuple(name for name in theirs if name not in used))


def _numbers(name: str) -> Sequence[str]:
    """The places that an entry may belong to: "0" and "0.1" of 0.1.clf.0.weight, which is nested."""
    match = _NUMBERED.match(name)
    return [] if match is None else list(dict.fromkeys([match[1].partition(".")[0], match[1]]))


def _best(head: Head, numbers: Sequence[str], theirs: Mapping[str, Tensor]) -> tuple[str | None, Found]:
    """The place whose entries this head has, and them by our names."""
    ours = head.state_dict()
    candidates = []
    for number in numbers:
        below = {n.removeprefix(f"{number}."): value for n, value in theirs.items() if n.startswith(f"{number}.")}
        for layout in names_of(head):
            found = layout.find(head, below)
            fits = sum(value.shape == ours[name].shape for name, value in found.entries.items())
            candidates.append((fits - len(found.rest), fits, number, found))
    best = max(candidates, key=lambda candidate: candidate[:2], default=None)  # the first of equals
    return (None, Found({}, ())) if best is None or not best[3].entries else best[2:]
