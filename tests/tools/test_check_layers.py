"""check_layers on trees that break one rule each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from tool_runs import run_tool

CLEAN = {
    "src/ssltyped/__init__.py": "from ssltyped.run import main\n",
    "src/ssltyped/types.py": "import torch\n",
    "src/ssltyped/config/__init__.py": "",
    "src/ssltyped/config/generate.py": "import hydra_zen\nfrom ssltyped import distributed\n",
    "src/ssltyped/distributed/__init__.py": "",
    "src/ssltyped/losses/__init__.py": "",
    "src/ssltyped/losses/simclr.py": "from ssltyped import config\nfrom .queue import Queue\n",
    "src/ssltyped/losses/queue.py": "from ..types import Batch\n",
    "src/ssltyped/trunks/__init__.py": "",
    "src/ssltyped/trunks/vit.py": "def f() -> None:\n    import timm\n",
    "src/ssltyped/run.py": "from ssltyped.losses import simclr\n",
}
BROKEN = [
    ({"src/ssltyped/types.py": "import ssltyped.losses.simclr\n"}, "types (layer 2) imports ssltyped.losses.simclr"),
    (
        {"src/ssltyped/types.py": "from ssltyped import run\n"},
        "types.py:1: types (layer 2) imports ssltyped.run (layer 10)",
    ),
    ({"src/ssltyped/types.py": "from . import main\n"}, "types (layer 2) imports ssltyped (layer 11)"),
    ({"src/ssltyped/losses/queue.py": "from ..run import main\n"}, "losses (layer 4) imports ssltyped.run (layer 10)"),
    (
        {"src/ssltyped/heads/__init__.py": "", "src/ssltyped/heads/mlp.py": "from ssltyped.trunks import vit\n"},
        "heads (layer 3) imports ssltyped.trunks.vit (layer 3)",
    ),
    (
        {"src/ssltyped/run.py": "def f() -> None:\n    if f:\n        from ssltyped import types\n"},
        "run.py:3: imports ssltyped.types inside a function",
    ),
    (
        {"src/ssltyped/losses/queue.py": "from ssltyped.losses.simclr import SimCLRLoss\n"},
        "import cycle: ssltyped.losses.simclr -> ssltyped.losses.queue -> ssltyped.losses.simclr",
    ),
    ({"src/ssltyped/trunks/vit.py": "from omegaconf import OmegaConf\n"}, "imports omegaconf; only config/ may"),
    ({"src/ssltyped/trunks/vit.py": "def f() -> None:\n    import hydra_zen.typing\n"}, "imports hydra_zen; only"),
    ({"src/ssltyped/run.py": "import recipes.simclr\n"}, "the library imports recipes"),
    ({"src/ssltyped/utils.py": ""}, "'utils' is not in the table of layers"),
    ({"src/ssltyped/utils/more.py": ""}, "'utils' is not in the table of layers"),
    ({"src/ssltyped/run.py": "import ssltyped.utils\n"}, "imports ssltyped.utils, which is not in the table"),
]


def test_a_clean_tree_passes(tmp_path: Path) -> None:
    assert run_tool("check_layers.py", tmp_path, CLEAN) == (0, "layers: all imports point down\n")


@pytest.mark.parametrize("change, message", BROKEN)
def test_each_rule_is_enforced(tmp_path: Path, change: Mapping[str, str], message: str) -> None:
    code, output = run_tool("check_layers.py", tmp_path, {**CLEAN, **change})
    assert code == 1
    assert message in output
    kinds = {line.startswith("import cycle") for line in output.splitlines()}  # an import upwards may close one too
    assert len(output.splitlines()) == len(kinds), output
