"""What a run may be called: what is taken as it is, and what is refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import tiny

from ssltyped import config, launch
from ssltyped.config import ConfigError
from ssltyped.engine.names import LONGEST, name_faults


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "got '': a run needs a name; null is the name of the recipe"),
        ("  ", "a run needs a name"),
        (".", "a folder in output, without '.', '..' and empty steps"),
        ("..", "without '.', '..'"),
        ("../x", "without '.', '..'"),
        ("a/../../x", "without '.', '..'"),
        ("a//b", "without '.', '..'"),
        ("a/", "without '.', '..'"),
        ("/tmp/x", "no absolute path, but in output: output=/tmp name=x"),
        ("/", "no absolute path"),
        ("a\nb", "cannot be printed"),
        ("a\0b", "cannot be printed"),
        ("\ud800", "cannot be printed"),
        ("x" * 300, "longer than the 240 bytes"),
        ("a/" + "\u00fc" * 121, "longer than the 240 bytes"),
        ("tiny/checkpoints", "a run keeps its checkpoints there"),
    ],
)
def test_a_name_that_is_refused(name: str, told: str, tmp_path: Path) -> None:
    """Before anything is written, and the same whether one process trains or several."""
    (fault,) = name_faults(name)
    assert told in fault
    for ranks in (1, 2):
        asked = config.replaced(tiny(output=tmp_path, batch_size=4), {"name": name, "distributed.num_procs": ranks})
        with pytest.raises(ConfigError) as caught:
            launch(asked)
        assert [str(problem) for problem in caught.value.problems] == [f"name: {fault}"]
    assert list(tmp_path.iterdir()) == []


NAMES = [
    "a",
    "a/b/c",
    "\u00fcn\u00ef \u5199",
    "it's [1] #2, $x=~",
    ".hidden",
    "..a",
    "x" * LONGEST,
    "\u00fc" * (LONGEST // 2),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_taken_as_it_is(name: str, tmp_path: Path) -> None:
    assert list(name_faults(name)) == []
    run = launch(config.replaced(tiny(output=tmp_path, steps=1), {"name": name}))
    assert run.folder == tmp_path / name
    assert (run.folder / "weights.pt").exists()


@pytest.mark.usefixtures("forked_ranks")
def test_it_is_taken_by_several_processes_too(tmp_path: Path) -> None:
    asked = config.replaced(tiny(output=tmp_path, steps=1, batch_size=4), {"name": NAMES[3] + "/b"})
    run = launch(config.replaced(asked, {"distributed.num_procs": 2, "resume": "never"}))
    assert run.folder == tmp_path / NAMES[3] / "b"
    assert {path.name for path in run.folder.parent.iterdir()} == {"b"}


@pytest.mark.parametrize("resume", ["auto", "never"])
@pytest.mark.parametrize("name", ["tiny", "a/b", "/".join(["x" * LONGEST] * 20)])
def test_a_folder_that_cannot_be_made(name: str, resume: str, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    output = blocked if len(name) < 100 else tmp_path
    with pytest.raises(ConfigError, match="cannot be made") as caught:
        launch(config.replaced(tiny(output=output), {"name": name, "resume": resume}))
    assert [problem.path for problem in caught.value.problems] == ["output"]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
