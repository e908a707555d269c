"""What the flags show in the place of a run."""

from __future__ import annotations

import pytest

from ssltyped.cli.flags import fields, plans, trees
from ssltyped.cli.sweep import runs
from ssltyped.config import ConfigError


def test_a_recipe_says_what_it_is_before_its_fields() -> None:
    first, _, rest = fields("recipes.simclr_folder", []).partition("\n\nfields of recipes.simclr_folder:\n")
    assert first.startswith("SimCLR on your own images: `python -m ssltyped.run recipes.simclr_folder ")
    assert "+callbacks=KNN`." in first
    assert "  data.train.path=???" in rest, "also of a recipe that lacks a value"


def test_a_function_says_it_itself() -> None:
    assert fields("recipes.quickstart:quickstart", []).startswith("A ResNet-18 of an eighth of the width")


def test_what_is_changed_is_checked() -> None:
    assert "  seed=7" in fields("recipes.quickstart", ["seed=7"])
    with pytest.raises(ConfigError, match="seed: got -1"):
        fields("recipes.quickstart", ["seed=-1"])


def test_one_run_has_no_number_and_several_have() -> None:
    for show in (trees, plans):
        one = show(runs("recipes.quickstart", ["seed=3"], multirun=False))
        assert not one.startswith("run ")
        several = show(runs("recipes.quickstart", ["seed=3,4"], multirun=True))
        assert several.startswith("run 0: seed=3\n")
        assert "\nrun 1: seed=4\n" in several
