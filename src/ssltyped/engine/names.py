"""What a run may be called."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from ssltyped.config.hints import shown

LONGEST = 240
"""Bytes of a folder's name: 255 less what a number behind it may take."""
OWN_FOLDERS = frozenset({"checkpoints", "tensorboard"})


def name_faults(name: Optional[str]) -> Iterator[str]:
    """Why a run cannot be called so: it is a folder in `output`, or, with slashes, one in a folder there."""
    if name is None:
        return
    steps = name.split("/")
    if not name.strip():
        yield f"got {name!r}: a run needs a name; null is the name of the recipe"
    elif name.startswith("/"):
        yield f"got {shown(name)}: no absolute path, but in output: output={Path(name).parent} name={steps[-1]}"
    elif any(step in ("", ".", "..") for step in steps):
        yield f"got {shown(name)}: a folder in output, without '.', '..' and empty steps"
    elif not name.isprintable():
        yield f"got {shown(name)}: it has signs that cannot be printed"
    elif any(len(os.fsencode(step)) > LONGEST for step in steps):
        yield f"got {shown(name)}: longer than the {LONGEST} bytes that a folder's name may have"
    elif OWN_FOLDERS & set(steps):
        yield f"got {shown(name)}: a run keeps its {' and '.join(sorted(OWN_FOLDERS & set(steps)))} there"
