"""The recipes of this library, by what they are."""

from __future__ import annotations

from ssltyped.cli.recipe import load_root, shipped
from ssltyped.tasks.running import is_task

TASKS = [name for name in shipped() if is_task(load_root(name))]
TRAININGS = [name for name in shipped() if name not in TASKS]
