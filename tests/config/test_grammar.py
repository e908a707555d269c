"""How overrides are written: what cannot be read is shown in quotes, and sweeps are expanded."""

from __future__ import annotations

import shlex

import pytest

from recipes.simclr import simclr
from ssltyped import config
from ssltyped.config import ConfigError
from ssltyped.config.grammar import MAX_RUNS, expand, parse, quoted
from ssltyped.config.overrides import override

RECIPE = simclr()


def kind(part: object) -> str:
    return config.part_of(part).target.__name__


# --- quotes -----------------------------------------------------------------------------------------------------

TEXTS = [
    "~/images", "\u00fcn\u00ef", "a=b", "run#2", "br[1]", "it's", "a[b", "{x", "a'b'c", 'say "hi"', "5$ and $HOME",
    "a`b`", "back\\slash's", "what!?#", "\u5199\u771f", "a,b", "(1)", "a:b#", "100%#", "it's \\' odd", "x\u00e9 y",
]  # fmt: skip
"""What file names are made of."""


@pytest.mark.parametrize("text", TEXTS)
def test_the_quoted_form_means_the_text_also_through_a_shell(text: str) -> None:
    shown = quoted(f"name={text}")
    assert shown is not None
    (written,) = shlex.split(shown)
    assert override(RECIPE, [written]).name == text


@pytest.mark.parametrize("text", ["~/images", "\u00fcn\u00ef", "a=b", "run#2", "br[1]", "it's"])
def test_what_cannot_be_read_is_shown_in_quotes(text: str) -> None:
    parsed, (problem,) = parse([f"data.train.path={text}"])
    assert parsed == []
    assert problem.path == "data.train.path"
    assert problem.message.startswith(f"{text} cannot be read (")
    assert problem.message.endswith(f"is quoted, for the shell and for itself: {quoted(f'data.train.path={text}')}")


def test_a_bracket_that_is_open() -> None:
    _, (problem,) = parse(["heads.projector.dims=[1,2"])
    assert "; close every bracket; a text" in problem.message


@pytest.mark.parametrize("text", ["seed", "seed 3", "s\u00e9ed=3", "", "a=\n#", "name=" + "#" * 500])
def test_what_is_no_override_in_quotes_either(text: str) -> None:
    _, (problem,) = parse([text])
    assert "not an override (want path=value)" in problem.message
    assert "quoted" not in problem.message


def test_a_sweep_without_multirun_that_may_be_a_text() -> None:
    _, (words, numbers) = parse(["name=a,b", "seed=1,2"])
    assert words.message.endswith("""or quotes for a text: "name='a,b'\"""")
    assert numbers.message.endswith("add --multirun, or [..] for a list")


# --- sweeps -----------------------------------------------------------------------------------------------------


def test_every_combination_in_order() -> None:
    assert expand(["loss.temperature=0.1,0.2", "seed=range(3)", "epochs=1"]) == [
        [f"loss.temperature={temperature}", f"seed={seed}", "epochs=1"]
        for temperature in ("0.1", "0.2")
        for seed in range(3)
    ]


def test_no_sweep_is_one_run() -> None:
    assert expand([]) == [[]]
    assert expand(["seed=1", "~callbacks.0"]) == [["seed=1", "~callbacks.0"]]


def test_a_sweep_keeps_its_sign_and_its_parts() -> None:
    assert expand(["+callbacks=KNN,NaNGuard"]) == [["+callbacks=KNN"], ["+callbacks=NaNGuard"]]
    assert expand(["heads.projector.dims=[1,2],[3]"]) == [["heads.projector.dims=[1,2]"], ["heads.projector.dims=[3]"]]
    names = [kind(override(RECIPE, one).optimizer) for one in expand(["optimizer=AdamW,SGD", "optimizer.rate.lr=0.1"])]
    assert names == ["AdamW", "SGD"]


@pytest.mark.parametrize(
    "text", ["seed=range(0)", "seed=range(1,2,0)", "seed=glob(*)", "seed=interval(0,1)", "a b=1,2"]
)
def test_what_is_no_sweep(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        expand([text, "epochs=1"])
    assert len(caught.value.problems) == 1


def test_a_sweep_without_end_is_refused() -> None:
    assert len(expand([f"seed=range({MAX_RUNS})"])) == MAX_RUNS
    for texts in (["seed=range(1000000000000)"], ["seed=range(100)", "epochs=range(100)"]):
        with pytest.raises(ConfigError, match=f"more than {MAX_RUNS} runs"):
            expand(texts)
