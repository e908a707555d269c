"""What parts tell each other: a fact that one publishes and another reads, without either knowing the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional, Self

import pytest
from facts import FACTS

from ssltyped.config import ConfigError, config_for
from ssltyped.config.resolve import resolve
from ssltyped.types import Component, Fact, Facts, Inference, Problem, Published

COLOUR: Fact[str] = Fact("colour")
NAMESAKE: Fact[str] = Fact("colour")


class Painter(Component):
    """Says which colour it has, and paints what is below it.

    Args:
        colour: its own.
        below: another.
    """

    def __init__(self, *, colour: str = "red", below: Optional[Component] = None) -> None:
        self.colour, self.below = colour, below

    @classmethod
    def publish(cls, config: Self) -> Iterable[Published]:
        yield COLOUR.being(config.colour)


class Reader(Component):
    """Takes the colour of the outermost painter.

    Args:
        painter: somebody who may publish.
        colour: what was read.
    """

    def __init__(self, *, painter: Component, colour: Optional[str] = None) -> None:
        self.painter, self.colour = painter, colour

    @classmethod
    def infer(cls, config: Self, facts: Facts) -> Iterable[Inference]:
        if (colour := facts.get(COLOUR)) is not None:
            yield Inference("colour", colour, "colour of the outermost painter")

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if facts.get(NAMESAKE) is not None:
            yield Problem("", "read under a key that nobody publishes")
        if len(colours := facts.all(COLOUR)) > 2:
            yield Problem("painter", f"too many: {dict(colours)}")


PainterConf = config_for(Painter)
ReaderConf = config_for(Reader)


def facts_of(_: object) -> Facts:
    return FACTS


def test_the_outermost_is_read() -> None:
    found = resolve(ReaderConf(painter=PainterConf(colour="blue", below=PainterConf())), facts_of)
    assert found.config.colour == "blue"
    assert [(row.field, row.rule) for row in found.rows] == [("colour", "colour of the outermost painter")]


def test_a_contradiction_is_an_error() -> None:
    with pytest.raises(ConfigError, match="colour: got 'green', but 'red' follows from the rest"):
        resolve(ReaderConf(painter=PainterConf(), colour="green"), facts_of)


def test_all_that_was_published_is_there_by_path() -> None:
    three = PainterConf(colour="a", below=PainterConf(colour="b", below=PainterConf(colour="c")))
    with pytest.raises(ConfigError) as caught:
        resolve(ReaderConf(painter=three), facts_of)
    said = "too many: {'painter': 'a', 'painter.below': 'b', 'painter.below.below': 'c'}"
    assert [(problem.path, problem.message) for problem in caught.value.problems] == [("painter", said)]


def test_nobody_publishes() -> None:
    assert FACTS.get(COLOUR) is None
    assert dict(FACTS.all(COLOUR)) == {}
