"""check_budgets on trees that break one rule each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from tool_runs import run_tool

LINE = "x = 1\n"
FUNCTION = "def f() -> int:\n" + "    x = 1\n" * 58 + "    return x\n"
SMALL = "def g() -> int:\n    return 1\n"
IGNORE = "x = f()  # type: ignore[call-arg]  # a stub is wrong\n"
CLEAN = {
    "src/ssltyped/__init__.py": "",
    "src/ssltyped/config/generate.py": "from typing import Any\n" + LINE * 399,
    "src/ssltyped/run.py": SMALL * 40,
    "src/ssltyped/engine/step.py": FUNCTION + SMALL * 10,
    "src/ssltyped/engine/trainer.py": LINE * 350,
    "src/ssltyped/losses/simclr.py": IGNORE * 24 + "try:\n    f()\nexcept OSError:\n    x = 2\n",
    "src/ssltyped/losses/queue.py": LINE,
    "src/ssltyped/losses/bank.py": LINE,
    "tests/config/test_generate.py": "",
    "tests/test_run.py": "",
    "tests/engine/test_step.py": "",
    "tests/engine/test_trainer.py": "",
    "tests/losses/test_simclr.py": "",
    "tests/losses/test_losses_queue.py": "",
    "tests/test_bank.py": "",
    "recipes/simclr.py": LINE,
    "tools/check.py": LINE,
}
BROKEN = [
    ({"src/ssltyped/config/generate.py": LINE * 401}, "src/ssltyped/config/generate.py: 401 lines; at most 400"),
    ({"tools/check.py": LINE * 401}, "tools/check.py: 401 lines; at most 400"),
    ({"src/ssltyped/engine/trainer.py": LINE * 351}, "trainer.py: 351 lines; at most 350"),
    ({"src/ssltyped/engine/step.py": SMALL * 41}, "step.py: 82 lines; at most 80"),
    ({"src/ssltyped/run.py": LINE * 91}, "run.py: 91 lines; at most 90"),
    (
        {"recipes/simclr.py": "\n" + FUNCTION.replace("    return", "    x = 2\n    return")},
        "recipes/simclr.py:2: f has 61 lines; at most 60",
    ),
    (
        {f"src/ssltyped/losses/{name}.py": LINE * 121 for name in ("simclr", "queue", "bank")},
        "src: the median file has 121 lines; at most 120",
    ),
    (
        {"src/ssltyped/run.py": "", "src/ssltyped/engine/step.py": "def f() -> None:\n" + LINE.rjust(10) * 12},
        "src: the median function has 13 lines; at most 12",
    ),
    ({"src/ssltyped/losses/moco.py": LINE}, "losses/moco.py: has no test; one of test_losses_moco, test_moco is"),
    ({"src/ssltyped/losses/simclr.py": IGNORE * 25}, "src: 25 lines have `type: ignore`; at most 24"),
    ({"src/ssltyped/losses/bank.py": "x = f()  # type: ignore  # why\n"}, "bank.py:1: `type: ignore` needs a code"),
    ({"src/ssltyped/losses/bank.py": "x = f()  # type: ignore[misc]\n"}, "bank.py:1: `type: ignore` needs a code"),
    ({"tools/check.py": "try:\n    f()\nexcept OSError:\n    pass\n"}, "tools/check.py:3: an exception is swallowed"),
    ({"tools/check.py": "try:\n    f()\nexcept OSError:\n    ...\n"}, "tools/check.py:3: an exception is swallowed"),
    ({"src/ssltyped/losses/bank.py": "from typing import Any as X\n"}, "bank.py:1: Any; only config/ may"),
    ({"recipes/simclr.py": "import typing\nx: typing.Any\n"}, "recipes/simclr.py:2: Any; only config/ may"),
]


def test_a_clean_tree_passes(tmp_path: Path) -> None:
    assert run_tool("check_budgets.py", tmp_path, CLEAN) == (0, "budgets: all kept\n")


@pytest.mark.parametrize("change, message", BROKEN)
def test_each_rule_is_enforced(tmp_path: Path, change: Mapping[str, str], message: str) -> None:
    clean = dict(CLEAN)
    if any("moco" in path or "type: ignore" in text for path, text in change.items()):
        clean["src/ssltyped/losses/simclr.py"] = LINE
    code, output = run_tool("check_budgets.py", tmp_path, {**clean, **change})
    assert code == 1
    assert message in output
    assert len(output.splitlines()) == 1, output
