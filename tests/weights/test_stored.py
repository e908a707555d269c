"""What files hold: formats told apart by their content, and one clear error for what cannot be read."""

from __future__ import annotations

import argparse
import json
from collections import deque
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ssltyped.config import ConfigError
from ssltyped.weights.stored import OURS, read_stored


def test_tensors_of_nested_entries_have_their_path(tmp_path: Path) -> None:
    state = {
        "epoch": 3,
        "arch": "vit",
        "a": {"b": [torch.zeros(1), {"c": torch.ones(2)}]},
        "args": argparse.Namespace(x=1),
    }
    torch.save(state, tmp_path / "file.pth")
    stored = read_stored(tmp_path / "file.pth")
    assert list(stored.tensors) == ["a.b.0", "a.b.1.c"]
    assert stored.said == {"epoch": "3", "arch": "vit"}
    assert stored.kind == ""


def test_more_than_tensors_is_refused_by_its_name(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1), "b": deque([1])}, tmp_path / "file.pth")
    with pytest.raises(ConfigError, match=r"path: .*file.pth holds more than tensors: collections.deque, which is not"):
        read_stored(tmp_path / "file.pth")


def test_safetensors_and_what_they_say(tmp_path: Path) -> None:
    save_file(
        {"trunk.a": torch.ones(2)}, tmp_path / "ours.safetensors", {"ssltyped": json.dumps({"product": "teacher"})}
    )
    stored = read_stored(tmp_path / "ours.safetensors")
    assert (stored.kind, stored.whose) == (OURS, "teacher")
    assert torch.equal(stored.tensors["trunk.a"], torch.ones(2))
    (tmp_path / "bad.safetensors").write_bytes(b"\x00" * 4)
    with pytest.raises(ConfigError, match="cannot be read as safetensors"):
        read_stored(tmp_path / "bad.safetensors")


def test_a_folder_of_hugging_face_in_pieces_and_its_config(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"b": torch.ones(1)}, tmp_path / "model-00002-of-00002.safetensors")
    places = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", "num_attention_heads": 5}))
    stored = read_stored(tmp_path)
    assert sorted(stored.tensors) == ["a", "b"]
    assert (stored.num_heads, stored.said) == (5, {"model_type": "vit"})
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config.json cannot be read"):
        read_stored(tmp_path)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing does not exist"):
        read_stored(tmp_path / "nothing")
    with pytest.raises(ConfigError, match=r"is neither a checkpoint \(state.pt\), nor the folder of a finished run"):
        read_stored(tmp_path)
    for step in ("step_00000008", "step_00000011", "step_00000012.tmp"):
        (tmp_path / "run" / "checkpoints" / step).mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"not finished: give .*step_00000011, its newest checkpoint"):
        read_stored(tmp_path / "run")
    torch.save({"a": 1}, tmp_path / "file.pth")
    with pytest.raises(ConfigError, match="holds no tensors by name"):
        read_stored(tmp_path / "file.pth")
    (tmp_path / "file.pth").write_bytes(b"junk")
    with pytest.raises(ConfigError, match="cannot be read as weights"):
        read_stored(tmp_path / "file.pth")
