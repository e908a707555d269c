"""Files of weights: what they hold, and what they say of themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from ssltyped.model.files import about, read_weights, write_text, write_weights


def test_a_plain_state_dict_that_says_what_it_is(tmp_path: Path) -> None:
    net, file = nn.Linear(2, 3), tmp_path / "weights.pt"
    write_weights(file, net, {"product": "teacher", "step": 7})
    state = torch.load(file, weights_only=True)
    assert list(state) == ["weight", "bias"]
    nn.Linear(2, 3).load_state_dict(state)
    assert about(file) == {"product": "teacher", "step": 7}
    assert torch.equal(read_weights(file)["weight"], net.weight)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pt"]


def test_a_file_of_others_says_nothing(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 3).state_dict(), tmp_path / "other.pt")
    assert about(tmp_path / "other.pt") == {}
    torch.save({"a": 1}, tmp_path / "none.pt")
    with pytest.raises(ValueError, match="holds no tensors by name"):
        about(tmp_path / "none.pt")


def test_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "a.yaml", "old")

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", kill)
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "a.yaml", "new")
    assert (tmp_path / "a.yaml").read_text() == "old"
