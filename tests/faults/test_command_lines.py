"""300 hostile command lines: each is a plan, or one-line errors that name the field; never a traceback.

They are mutations of real ones, drawn from a seed: typing errors, values of other types, other nesting, sweeps,
quotes, other alphabets, what is said twice or contradicts itself, what is missing, huge, not a number, negative, of
another kind, empty. What is found here belongs into a test of its own, beside the code that it was a fault of.
"""

from __future__ import annotations

import contextlib
import io
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ssltyped import config
from ssltyped.cli.recipe import load_recipe
from ssltyped.config import catalog
from ssltyped.run import main

LINES, SEED = 300, 8

RECIPES = ("recipes.quickstart", "recipes.simclr_folder", "recipes.simclr_8node", "recipes.simclr_1gpu")
REAL: tuple[tuple[str, ...], ...] = (
    ("loss.temperature=0.1", "heads.projector.dims=[512,128]", "data.train.batch_size=32"),
    ("optimizer=AdamW", "optimizer.rate.lr=1e-3", "optimizer.betas=[0.9,0.95]"),
    ("loss=MoCoLoss", "loss.queue_size=500", "seed=3"),
    ("loss=SwAVLoss", "heads.projector=PrototypesHead", "heads.projector.dims=[64,32]",
     "heads.projector.num_prototypes=[30]"),
    ("+optimizer.groups=Group", "optimizer.groups.0.parts=[heads]", "optimizer.groups.0.lr_scale=10"),
    ("+heads.other=MLPHead", "heads.other.dims=[64]", "loss.head=projector"),
    ("~callbacks.2", "+callbacks=NaNGuard", "log_every=1"),
    ("epochs=null", "steps=20", "name=try"),
    ("schedule=Cosine", "optimizer.rate.lr=0.01", "optimizer.weight_decay=0.0001"),
    ("trunk=VisionTransformer", "trunk.patch_size=4", "trunk.image_size=32"),
    ("freeze=[Freeze]", "freeze.0.parts=[trunk]", "freeze.0.epochs=1"),
    ("precision=bf16", "grad_clip=1.0", "accumulation=1", "compiled=false"),
    ("checkpoints.every_steps=5", "checkpoints.keep=3", "checkpoints.best=loss"),
    ("distributed.num_procs=1", "distributed.device=cpu", "output=runs/here"),
)  # fmt: skip
"""What people write."""

VALUES = (
    "", " ", "null", "None", "none", "true", "True", "yes", "~", "nan", "inf", "-inf", "-1", "0", "-0.0", "1e400",
    "1e30", "9" * 400, "2147483648", "0x10", "1_000", "1/2", "5%", "3.5", "abc", "\u00fcn\u00ef", "\u5199\u771f",
    "\U0001f98a",
    "a b", "it's", '"', "'",
    "'a", '"a"', "[]", "[1", "1]", "[[1]]", "[null]", "[1,two]", "{}", "{a:1}", "{a", "{a:{b:[1]}}", "1,2", "range(3)",
    "choice(a,b)", "glob(*)", "a=b", "a#b", "a:b", "${seed}", "${no.such}", "${", "???", "../../x", "/nowhere/at/all",
    "\\", "\\n", "\t", "x" * 3000, "os:system", "no_such:Part", "ssltyped.run:main", "SimCLRLoss", "AdamW", "MLPHead",
    "ResNet", "KNN", "Cosine", "Mix", "Digits", "[KNN,AdamW]", "[SimCLRLoss]", "simclrloss", "Loss", "Experiment",
)  # fmt: skip
NAMES = (
    "", ".", "recipes", "recipes.", "recipes.quikstart", "Recipes.Quickstart", "quickstart", "recipes/quickstart.py",
    "recipes.quickstart:nothing", "recipes.quickstart:", ":", "runs/none/resolved.yaml", "README.md", "a b", "\u00fc",
    "os", "os:system", "x" * 300, "/etc/passwd", "tests", "json", "this.is.no.module", "recipes.simclr", "-", "~",
)  # fmt: skip
FLAGS = ("--pan", "-x", "--epochs=3", "--plan=yes", "--multirun", "--print", "--", "--help", "-h", "--list")
TYPING = ("drop", "double", "swap", "capital", "strange")

Line = list[str]
Mutation = Callable[[random.Random, Line], Line]


def mistyped(draw: random.Random, text: str) -> str:
    """One slip of a finger."""
    if len(text) < 2:
        return text + "x"
    place, how = draw.randrange(len(text) - 1), draw.choice(TYPING)
    if how == "drop":
        return text[:place] + text[place + 1 :]
    if how == "double":
        return text[:place] + text[place] + text[place:]
    if how == "swap":
        return text[:place] + text[place + 1] + text[place] + text[place + 2 :]
    if how == "capital":
        return text[:place] + text[place].swapcase() + text[place + 1 :]
    return text[:place] + draw.choice("\u00fc=:@/.[{'\"#~$ ,+-\u00b2") + text[place + 1 :]


def _typing(draw: random.Random, line: Line) -> Line:
    place = draw.randrange(len(line))
    return [mistyped(draw, one) if at == place else one for at, one in enumerate(line)]


def _value(draw: random.Random, line: Line) -> Line:
    place = draw.randrange(1, len(line))
    return [f"{one.partition('=')[0]}={draw.choice(VALUES)}" if at == place else one for at, one in enumerate(line)]


def _any_field(draw: random.Random, line: Line) -> Line:
    """A value for a field that the recipe has, whichever it is."""
    return [*line, f"{draw.choice(FIELDS)}={draw.choice(VALUES)}"]


def _part(draw: random.Random, line: Line) -> Line:
    """Some part, where it may be of another kind."""
    return [*line, f"{draw.choice(FIELDS)}={draw.choice(list(catalog.components()))}"]


def _nesting(draw: random.Random, line: Line) -> Line:
    place = draw.randrange(1, len(line))
    left, equals, value = line[place].partition("=")
    deeper = draw.choice(
        (f"{left}.x", f"x.{left}", f"{left}.0", left.rpartition(".")[2], left.replace(".", "/"), f"{left}.")
    )
    return [*line[:place], f"{deeper}{equals}{value}", *line[place + 1 :]]


def _sign(draw: random.Random, line: Line) -> Line:
    place = draw.randrange(1, len(line))
    return [*line[:place], draw.choice(("+", "++", "~", "-", "!", "+~")) + line[place], *line[place + 1 :]]


def _removal(draw: random.Random, line: Line) -> Line:
    return [*line, f"~{draw.choice(FIELDS)}"]


def _addition(draw: random.Random, line: Line) -> Line:
    return [*line, f"+{draw.choice(FIELDS)}={draw.choice(list(catalog.components()))}"]


def _twice(draw: random.Random, line: Line) -> Line:
    again = draw.choice(line[1:])
    return [*line, f"{again.partition('=')[0]}={draw.choice(VALUES)}", again]


def _contradiction(draw: random.Random, line: Line) -> Line:
    pairs = (
        ("epochs=3", "steps=7"), ("optimizer.rate.lr=1", "optimizer.rate.base_lr=1"), ("global_batch_size=7", "seed=1"),
        ("heads.projector.in_dim=3", "seed=1"), ("data.train.path=x", "data.train.source=Digits"),
        ("accumulation=3", "loss=SimCLRLoss"), ("heads={}", "loss.head=projector"), ("resume=never", "resume=/nowhere"),
    )  # fmt: skip
    return [*line, *draw.choice(pairs)]


def _missing(draw: random.Random, line: Line) -> Line:
    place = draw.randrange(1, len(line))
    left, _, value = line[place].partition("=")
    return [*line[:place], draw.choice((left, f"{left}=", f"={value}", "=", "")), *line[place + 1 :]]


def _recipe(draw: random.Random, line: Line) -> Line:
    return [draw.choice(NAMES), *line[1:]]


def _flag(draw: random.Random, line: Line) -> Line:
    place = draw.randrange(len(line) + 1)
    return [*line[:place], draw.choice(FLAGS), *line[place:]]


def _order(draw: random.Random, line: Line) -> Line:
    return draw.sample(line, len(line))


MUTATIONS: tuple[Mutation, ...] = (
    _typing, _typing, _value, _value, _any_field, _any_field, _part, _nesting, _sign, _removal, _addition, _twice,
    _contradiction, _missing, _recipe, _flag, _order,
)  # fmt: skip


def _fields() -> list[str]:
    recipe = load_recipe(RECIPES[0])
    return [config.join(path, name) for path, part in config.walk(recipe) for name in config.part_of(part).parameters]


FIELDS = _fields()


def command_lines() -> list[Line]:
    """The same ones in every run: one, two or three mutations of a real one, each kind as often as the others."""
    draw = random.Random(SEED)
    lines = []
    for number in range(LINES):
        line = [draw.choice(RECIPES[:2]) if number % 4 else draw.choice(RECIPES), *draw.choice(REAL)]
        for mutation in (MUTATIONS[number % len(MUTATIONS)], *draw.choices(MUTATIONS, k=draw.choice((0, 0, 1, 2)))):
            line = mutation(draw, line)
        lines.append(line)
    return lines


def ended(line: Line) -> tuple[int, str, str]:
    """Exit code, output and errors of a plan, in this process. What is raised is what the test is about."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([*line, "--plan"] if "--" not in line else ["--plan", *line])
        except SystemExit as leaving:  # argparse's way to say that an option is wrong
            code = leaving.code if isinstance(leaving.code, int) else 1
    return code, out.getvalue(), err.getvalue()


@pytest.mark.parametrize(
    "line", command_lines(), ids=lambda line: " ".join(line)[:120].encode("unicode_escape").decode()
)
def test_a_hostile_command_line(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = ended(line)
    assert list(tmp_path.iterdir()) == [], "nothing is written"
    assert code in (0, 2)
    assert "Traceback" not in err + out
    if code == 0:
        assert (out != "", err) == (True, "")
        return
    if err.startswith("usage: ") or not err:
        return
    first, *problems = err.split("\n")[:-1]
    assert re.fullmatch(r"error: .* is not started:", first, re.DOTALL)
    assert problems
    for problem in problems:
        path, _, said = problem.strip().partition(": ")
        assert problem.startswith("  "), "one line a problem"
        assert path, "the field is named"
        assert len(said) > 5
        assert len(problem) < 1500
        assert "pydantic" not in problem
        assert "object_type" not in problem
