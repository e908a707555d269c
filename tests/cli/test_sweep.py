"""The runs of a command."""

from __future__ import annotations

import pytest

from ssltyped.cli.sweep import runs
from ssltyped.config import ConfigError


def test_one_run_has_the_name_of_its_recipe() -> None:
    ((name, one, changes),) = runs("recipes.quickstart", ["seed=3"], multirun=False)
    assert (name, one.name, one.seed, changes) == ("quickstart", None, 3, ["seed=3"])


def test_a_sweep_is_every_combination_in_folders_of_their_own() -> None:
    found = runs("recipes.quickstart", ["loss.temperature=0.1,0.2", "seed=range(3)", "epochs=2"], multirun=True)
    assert [one.seed for _, one, _ in found] == [0, 1, 2, 0, 1, 2]
    assert [one.name for _, one, _ in found] == [f"quickstart/{number}" for number in range(6)]
    assert found[4][2] == ["loss.temperature=0.2", "seed=1", "epochs=2"]
    assert all(one.epochs == 2 for _, one, _ in found)


def test_a_mistake_in_the_last_run_is_found_first() -> None:
    with pytest.raises(ConfigError, match=r"loss\.temperature: got -1"):
        runs("recipes.quickstart", ["loss.temperature=0.1,-1"], multirun=True)
