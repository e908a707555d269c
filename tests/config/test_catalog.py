"""What there is, read from the source text."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping

import pytest

from ssltyped import config
from ssltyped.config.catalog import argument_docs, components, summary
from ssltyped.config.show import component
from ssltyped.types import Component


def test_the_names_in_the_text_are_the_registered_ones() -> None:
    for module in set(components().values()):
        importlib.import_module(module)
    registered = {
        (part.target.__name__, part.target.__module__)
        for part in config.parts().values()
        if part.target.__module__.startswith("ssltyped.")
    }
    assert registered == set(components().items())


def test_every_config_is_bound_beside_its_class() -> None:
    for name, module in components().items():
        imported = importlib.import_module(module)
        assert vars(imported)[f"{name}Conf"] is config.config_for(vars(imported)[name])


def test_components_are_sorted_by_module() -> None:
    modules = list(components().values())
    assert modules == sorted(modules)
    assert components()["SimCLRLoss"] == "ssltyped.losses.simclr"


def test_the_documented_arguments() -> None:
    text = inspect.cleandoc(
        """Something.

        Args:
            first: one line
            second: goes on
                in another line: with a colon.
            third_one: x

        Raises:
            ValueError: not an argument.
        """
    )
    assert argument_docs(text) == {
        "first": "one line",
        "second": "goes on in another line: with a colon.",
        "third_one": "x",
    }


@pytest.mark.parametrize("text", ["", "No arguments.", "Args: not a section"])
def test_no_documented_arguments(text: str) -> None:
    assert argument_docs(text) == {}


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("One sentence. Another one.", "One sentence."),
        ("Over two\n    lines. More.", "Over two lines."),
        ("Ends with the paragraph\n\nAnother.", "Ends with the paragraph"),
        ("One thing: {'a': 1} and more. Then", "One thing: {'a': 1} and more."),
        ("NT-Xent (Chen et al. 2020, eq. 1). More.", "NT-Xent (Chen et al. 2020, eq. 1)."),
        ("Shown by A. Author et al. B follows. More.", "Shown by A. Author et al. B follows."),
        ("The paper's fig. A, e.g. [3, H, W]. More.", "The paper's fig. A, e.g. [3, H, W]."),
        ("y = h(... f(x)): each. [3, H, W] both ways.", "y = h(... f(x)): each."),
        ("", ""),
    ],
)
def test_the_first_sentence(text: str, first: str) -> None:
    assert summary(text) == first


@pytest.mark.parametrize("name", list(components()))
def test_every_component_follows_the_contract_of_its_config(name: str) -> None:
    part = component(name)
    assert issubclass(part.kind, Component)
    assert part.target.__name__ == name
    hints: Mapping[str, object] = part.hints
    assert set(part.parameters) <= set(hints)
    required = {key for key, parameter in part.parameters.items() if parameter.default is parameter.empty}
    if not required:
        assert config.check(part.config()) == part.config()
