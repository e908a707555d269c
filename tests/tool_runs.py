"""Run a tool of `tools/` on a small tree that a test writes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

TOOLS = Path(__file__).parents[1] / "tools"


def run_tool(tool: str, root: Path, files: Mapping[str, str]) -> tuple[int, str]:
    """Exit code and output of `tool` on `root` with these files (path -> text) in it."""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    command = [sys.executable, str(TOOLS / tool), "--root", str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout
