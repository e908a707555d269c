"""Images that could not be read are named once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ssltyped.data.reading import Unreadable
from ssltyped.engine.unreadable import UnreadableImages


def test_each_is_named_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = UnreadableImages(tmp_path)
    first, second = Unreadable(3, "a.png", "cut short"), Unreadable(5, "b.png", "empty")
    images([first])
    images([first, second])
    assert images.counts == {"unreadable_images": 2.0}
    images([Unreadable(5, "b.png", "empty", repeated=True)])
    assert images.counts == {"unreadable_images": 2.0, "repeated_images": 1.0}
    rows = [json.loads(line) for line in (tmp_path / "unreadable_rank0.jsonl").read_text().splitlines()]
    assert rows == [
        {"path": "a.png", "index": 3, "reason": "cut short"},
        {"path": "b.png", "index": 5, "reason": "empty"},
    ]
    assert capsys.readouterr().out.splitlines() == [
        "unreadable image, not used: a.png (cut short)",
        "unreadable image, not used: b.png (empty)",
    ]
