"""The first rank of a node finds out, the others are told, also where it fails; without torchrun nobody waits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ssltyped.engine.in_turn import in_turn
from ssltyped.engine.parallel import Place

RANK = """
import sys
from ssltyped.engine.in_turn import in_turn
from ssltyped.engine.parallel import Place

place = Place.from_environment()
for block in range(2):
    said = [f"{place.rank} in {block}"]
    try:
        with in_turn(place, lambda: " ".join(said), said.append):
            said.append("found")
            if block and not place.rank:
                raise ValueError
    except ValueError:
        said.append("failed")
    open(f"{sys.argv[1]}/{place.rank}.{block}", "w").write(", ".join(said))
"""


def test_the_first_rank_tells_the_others(tmp_path: Path) -> None:
    (tmp_path / "rank.py").write_text(RANK)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3"]
    subprocess.run([*command, str(tmp_path / "rank.py"), str(tmp_path)], check=True, capture_output=True, timeout=120)
    found = {file.name: file.read_text() for file in tmp_path.glob("?.?")}
    assert found == {
        "0.0": "0 in 0, found",
        "1.0": "1 in 0, 0 in 0 found, found",
        "2.0": "2 in 0, 0 in 0 found, found",
        "0.1": "0 in 1, found, failed",
        "1.1": "1 in 1, 0 in 1 found, found",
        "2.1": "2 in 1, 0 in 1 found, found",
    }


@pytest.mark.parametrize("place", [None, Place(0, 1, 0, 1), Place(1, 2, 1, 2)])
def test_without_torchrun_nobody_waits(place: Place | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    with in_turn(place, lambda: pytest.fail("told"), lambda told: pytest.fail("taken")):
        pass
