"""Shards that FSDP cut, put together as fairscale does; slices; what is refused."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ssltyped.config import ConfigError
from ssltyped.trunks.resnet import ResNet
from ssltyped.weights.load import Load
from ssltyped.weights.stored import VISSL, read_stored
from ssltyped.weights.vissl import trunk_layout
from ssltyped.weights.vissl_files import joined, read_vissl

Names = dict[str, Tensor]


def cut(state: Names, ranks: int, group: str) -> tuple[list[Names], list[dict[str, object]]]:
    """What each rank of FSDP saves of a state dict: parameters that start with `group` in one flat one, cut; buffers.

    The layer below `group` is a module of FSDP of its own; the others are in that of the whole.
    """
    buffers = [name for name in state if "running" in name or "num_batches" in name]
    weights: list[Names] = [{name: state[name].clone() for name in buffers} for _ in range(ranks)]
    metas: list[dict[str, object]] = [{"param_metadata": [], "buffer_names": buffers} for _ in range(ranks)]
    for path in ("", group):
        inside = [n for n in state if n not in buffers and n.startswith(f"{group}.") is bool(path)]
        names = [n.removeprefix(f"{path}.") if path else n for n in inside]
        flat = torch.cat([state[name].flatten() for name in inside])
        size = -(-len(flat) // ranks)
        for rank in range(ranks):
            piece = flat[rank * size : (rank + 1) * size]
            padding = size - len(piece)
            weights[rank][f"{path}.flat_param_0" if path else "flat_param_0"] = torch.nn.functional.pad(
                piece, (0, padding), value=float("nan")
            )
            params = {
                "flat_param_0": {
                    "names": names,
                    "shapes": [state[name].shape for name in inside],
                    "numels": [state[name].numel() for name in inside],
                    "padding": padding,
                }
            }
            described = {
                "fsdp_path": path,
                "params": params,
                "no_broadcast_optim_state": False,
                "shared_param_info": [],
            }
            entries = metas[rank]["param_metadata"]
            assert isinstance(entries, list)
            entries.append(described)
    return weights, metas


def trunk() -> ResNet:
    return ResNet(depth=18, width_multiplier=0.125)


def test_shards_are_put_together_as_fairscale_does() -> None:
    state = trunk_layout(made := trunk()).export(made)
    weights, metas = cut(state, 3, "_feature_blocks.layer2.0")
    fsdp = importlib.import_module("fairscale.nn").FullyShardedDataParallel
    got = joined(weights, metas)
    for wanted in (state, fsdp.consolidate_shard_weights(weights, metas)):
        assert got.keys() == wanted.keys()
        assert all(torch.equal(value, wanted[name]) for name, value in got.items())


def write_shards(folder: Path, state: Names, heads: list[Names]) -> Path:
    """The files that VISSL writes on 2 ranks."""
    weights, metas = cut(state, 2, "_feature_blocks.layer2.0")
    cut_heads = [cut(head, 2, "clf.1") for head in heads]
    for rank in range(2):
        model = {"trunk": weights[rank], "heads": [pieces[rank] for pieces, _ in cut_heads]}
        meta = {"trunk": metas[rank], "heads": [described[rank] for _, described in cut_heads]}
        shard = {"type": "shard", "classy_state_dict": {"base_model": {"model": model, "meta": meta}}}
        torch.save(shard, folder / f"model_phase3_shard{rank}.torch")
    names = [f"model_phase3_shard{rank}.torch" for rank in range(2)]
    torch.save({"type": "shard_list", "shards": names}, folder / "model_phase3.torch")
    return folder / "model_phase3.torch"


def head() -> Names:
    return {"clf.0.weight": torch.randn(8, 64), "clf.0.bias": torch.randn(8), "clf.1.weight": torch.randn(3, 8)}


def test_a_list_of_shards_is_a_checkpoint(tmp_path: Path) -> None:
    made, other, heads = trunk(), trunk(), [head(), head()]
    file = write_shards(tmp_path, trunk_layout(made).export(made), heads)
    stored = read_stored(file)
    assert stored.kind == VISSL
    assert stored.said == {"type": "shard_list"}
    for number, wanted in enumerate(heads):
        assert all(torch.equal(stored.tensors[f"heads.{number}.{name}"], value) for name, value in wanted.items())
    report = Load(path=file).load(torch.nn.ModuleDict({"trunk": other}), stored)
    assert report.share == 1
    assert all(torch.equal(value, made.state_dict()[name]) for name, value in other.state_dict().items())


def test_shards_that_are_damaged_or_alone_are_refused(tmp_path: Path) -> None:
    made = trunk()
    file = write_shards(tmp_path, trunk_layout(made).export(made), [])
    shard = tmp_path / "model_phase3_shard1.torch"
    with pytest.raises(ConfigError, match=r"path: .*shard1.torch is one shard of several: give the file that lists"):
        read_stored(shard)
    state = torch.load(shard, weights_only=True)
    flat = state["classy_state_dict"]["base_model"]["model"]["trunk"]
    flat["flat_param_0"] = flat["flat_param_0"][:-7]
    torch.save(state, shard)
    with pytest.raises(ConfigError, match=r"has shards of flat_param_0 of \d+ values; \d+ are needed"):
        read_stored(file)
    state["classy_state_dict"]["base_model"]["meta"]["trunk"] = {"param_metadata": [{"fsdp_path": 3}]}
    torch.save(state, shard)
    with pytest.raises(ConfigError, match="has shards whose metadata cannot be read"):
        read_stored(file)
    shard.unlink()
    with pytest.raises(ConfigError, match=r"lists .*model_phase3_shard1.torch, which does not exist"):
        read_stored(file)


def test_slices_are_found_where_they_were_written_or_moved_to(tmp_path: Path) -> None:
    made = trunk()
    state = trunk_layout(made).export(made)
    folder = tmp_path / "sliced_layers"
    folder.mkdir()
    paths = {}
    for number, (name, value) in enumerate(state.items()):
        torch.save({"type": "slice", "weight": value}, folder / f"{number:x}.torch")
        paths[name] = f"/gone/sliced_layers/{number:x}.torch"
    model = {"model": {"trunk": paths, "heads": {}}}
    file = tmp_path / "sliced.torch"
    torch.save({"type": "slice_list", "classy_state_dict": {"base_model": model}}, file)
    report = Load(path=file)(torch.nn.ModuleDict({"trunk": trunk()}))
    assert report.share == 1
    (folder / "0.torch").unlink()
    with pytest.raises(ConfigError, match=re.escape("lists /gone/sliced_layers/0.torch, which does not exist")):
        read_stored(file)


def test_blocks_that_one_wrapper_held_have_their_plain_names() -> None:
    """RegNets for FSDP: vissl/models/trunks/regnet_fsdp.py."""
    names = {"_feature_blocks.res2.block1-part0.block1-0.proj.weight": torch.zeros(1)}
    state = {"classy_state_dict": {"base_model": {"model": {"trunk": names, "heads": {}}}}}
    assert list(read_vissl(Path("x"), state)) == ["trunk._feature_blocks.res2.block1-0.proj.weight"]


def test_heads_in_a_list_and_teachers_of_a_loss_are_found() -> None:
    heads = [{"clf.0.bias": torch.zeros(2)}, {"clf.0.bias": torch.ones(2)}]
    state = {
        "classy_state_dict": {"base_model": {"model": {"trunk": {}, "heads": heads}}},
        "loss": {"momentum_teacher": {"trunk.x": torch.zeros(1)}},
    }
    names = ["heads.0.clf.0.bias", "heads.1.clf.0.bias", "loss.momentum_teacher.trunk.x"]
    assert list(read_vissl(Path("x"), state)) == names
