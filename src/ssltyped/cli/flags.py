"""What the flags show in the place of a run: --list, --help, --print and --plan."""

from collections.abc import Sequence

from ssltyped.cli.plan import plan
from ssltyped.cli.recipe import about, load_root
from ssltyped.cli.sweep import Member
from ssltyped.config.overrides import override
from ssltyped.config.show import show, show_fields
from ssltyped.tasks.running import is_task, plan_task

FLAGS = {
    "--plan": "what would run, and why; nothing runs",
    "--print": "the recipe with its overrides, as a tree",
    "--strict": "what may be unwise (warnings of the plan) is an error",
    "--multirun": "run every combination of a=1,2 b=range(3)",
    "--list": "every component there is, with its parameters",
}


def fields(recipe: str, overrides: Sequence[str]) -> str:
    """What a recipe says of itself, and every field, also of one that still lacks a required value."""
    asked = load_root(recipe)
    asked = override(asked, overrides) if overrides else asked
    text = about(recipe)
    return f"{text}\n\n" * bool(text) + f"fields of {recipe}:\n" + show_fields(asked)


def trees(members: Sequence[Member]) -> str:
    """Each run as a tree."""
    return _each(members, [show(one.asked) for one in members])


def plans(members: Sequence[Member]) -> str:
    """What each run would be. Raises `ConfigError` for everything that can be known to be wrong before one."""
    return _each(members, [_plan(one) for one in members])


def _plan(member: Member) -> str:
    if is_task(member.asked):
        return "\n".join(plan_task(member.asked, member.name, strict=member.strict)) + "\n"
    return plan(member.asked, member.name, strict=member.strict)


def _each(members: Sequence[Member], texts: Sequence[str]) -> str:
    if len(members) == 1:
        return texts[0]
    heads = (f"run {number}: {' '.join(one.changes)}" for number, one in enumerate(members))
    return "\n".join(f"{head}\n{text}" for head, text in zip(heads, texts, strict=True))
