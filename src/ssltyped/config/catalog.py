"""What there is: the names of all components, read from the source text, so that nothing is imported for it."""

import functools
import re
from collections.abc import Mapping
from pathlib import Path

_DECLARED = re.compile(r"^\w+Conf = config_for\((\w+)\)", re.MULTILINE)
_ABBREVIATED = re.compile(r"\b(al|cf|e\.g|eq|eqs|etc|fig|i\.e|no|resp|sec|vs|[A-Z])\.$", re.IGNORECASE)
_PACKAGE = Path(__file__).parents[1]


@functools.cache
def components() -> Mapping[str, str]:
    """Name of every component of the library -> the module that defines it, sorted by module, then by name."""
    found = {
        name: ".".join([_PACKAGE.name, *file.relative_to(_PACKAGE).with_suffix("").parts])
        for file in sorted(_PACKAGE.rglob("*.py"))
        for name in _DECLARED.findall(file.read_text(encoding="utf-8"))
    }
    return dict(sorted(found.items(), key=lambda pair: (pair[1], pair[0])))


def argument_docs(docstring: str) -> dict[str, str]:
    """The `Args:` section of a Google-style docstring: parameter -> its text on one line."""
    found: dict[str, str] = {}
    current = ""
    _, marker, section = docstring.partition("\nArgs:\n")
    for line in section.splitlines() if marker else ():
        if not line.strip() or not line.startswith("    "):
            break
        entry = re.match(r"    (\w+): (.*)", line)
        if entry:
            current = entry[1]
            found[current] = entry[2].strip()
        elif current:
            found[current] += " " + line.strip()
    return found


def summary(docstring: str) -> str:
    """The first sentence of a docstring: it ends with a point before a capital, but not after `et al.` or `e.g.`"""
    text = " ".join(docstring.strip().partition("\n\n")[0].split())
    ends = (
        m.start() + 1 for m in re.finditer(r"\.(?= [A-Z`\[])", text) if not _ABBREVIATED.search(text[: m.start() + 1])
    )
    return text[: next(ends, len(text))]
