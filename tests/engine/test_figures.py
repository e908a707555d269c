"""Each figure says what it is, and what brings it to its limit."""

from __future__ import annotations

import pytest

from ssltyped.engine.figures import ABOUT, Figure


@pytest.mark.parametrize("figure", Figure)
def test_every_figure_is_explained(figure: Figure) -> None:
    about = ABOUT[figure]
    assert len(about.what) > 20
    limited = (about.lowest, about.highest) != (None, None)
    assert bool(about.causes) is limited, "a limit has causes, and nothing else has"
    assert not about.causes.endswith("."), "the sentence goes on"
