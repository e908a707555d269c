"""ClusterFit: the clusters of one run are the labels of the next."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ranks import run_on_ranks
from tiny import PatchesConf, tiny
from torch import Tensor

from ssltyped import config, distributed
from ssltyped.cli.plan import plan
from ssltyped.config import ConfigError
from ssltyped.data.relabelled import RelabelledSource, RelabelledSourceConf
from ssltyped.evals.cluster_labels import ClusterLabels, ClusterLabelsConf, in_source_order
from ssltyped.heads.mlp import MLPHeadConf
from ssltyped.launch import launch
from ssltyped.losses import assignments
from ssltyped.losses.supervised import CrossEntropyLossConf

CENTRES = F.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), dim=1)
ROWS = CENTRES.repeat(10, 1) + 0.05 * torch.randn(40, 8, generator=torch.Generator().manual_seed(1))


def test_groups_get_a_label_each() -> None:
    clusters, similarity = ClusterLabels(num_clusters=4, seed=3).cluster(ROWS)
    assert torch.equal(clusters.reshape(10, 4), clusters[:4].expand(10, 4))
    assert len(set(clusters[:4].tolist())) == 4
    assert 0.95 < similarity <= 1


def test_in_parts_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    want, similarity = clustered()
    monkeypatch.setattr(assignments, "SCORES_BYTES", 3 * 4 * 4)  # three rows of four products
    seen: list[int] = []
    matmul = Tensor.__matmul__

    def recorded(x: Tensor, y: Tensor) -> Tensor:
        seen.append(len(x))
        return matmul(x, y)

    monkeypatch.setattr(Tensor, "__matmul__", recorded)
    clusters, found = clustered()
    assert set(seen) == {3, 1}  # 40 = 13 x 3 + 1
    assert torch.equal(clusters, want)
    assert found == pytest.approx(similarity, rel=1e-6)


def clustered() -> tuple[Tensor, float]:
    return ClusterLabels(num_clusters=4, seed=3).cluster(ROWS)


def gathered() -> Tensor:
    mine = torch.arange(7)[distributed.rank() :: distributed.world_size()]
    return distributed.gather_uneven(mine)[in_source_order(7)]


def test_ranks_agree_and_rows_come_back_in_order() -> None:
    want, _ = clustered()
    for clusters, _ in run_on_ranks(clustered, 2):
        assert torch.equal(clusters, want)
    for order in run_on_ranks(gathered, 2):
        assert order.tolist() == list(range(7))


def test_two_stages(tmp_path: Path) -> None:
    first = launch(tiny(output=tmp_path, epochs=1, evaluated=True, callbacks=[ClusterLabelsConf(num_clusters=3)]))
    file = first.folder / "cluster_labels.npy"
    labels = np.load(file)
    assert labels.shape == (24,)
    assert set(labels.tolist()) <= {0, 1, 2}
    assert 0 < first.metrics["cluster_similarity"] <= 1 + 1e-6
    source = RelabelledSourceConf(source=PatchesConf(has_labels=False), labels=file)
    second = config.replaced(
        tiny(output=tmp_path, epochs=1, loss=CrossEntropyLossConf(), source=source),
        {"heads": {"classes": MLPHeadConf(dims=[3])}, "name": "second"},
    )
    assert "top1" in launch(second).metrics


def test_labels_are_those_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "labels.npy"
    np.save(file, np.arange(24)[::-1])
    source = RelabelledSource(source=config.build(PatchesConf()), labels=file)
    plain = config.build(PatchesConf())
    assert [source.label(i) for i in (0, 23)] == [23, 0]
    assert (len(source), source.labelled, source.name(3)) == (24, True, plain.name(3))
    assert torch.equal(source.read(5), plain.read(5))
    np.save(file, np.arange(7))
    with pytest.raises(ValueError, match=r"holds int64 of shape \(7,\): 7 labels for 24 images"):
        RelabelledSource(source=plain, labels=file).label(0)
    np.save(file, np.arange(24) / 2)
    with pytest.raises(ValueError, match="holds float64"):
        RelabelledSource(source=plain, labels=file).label(0)
    with pytest.raises(ValueError, match=r"gone.npy does not exist"):
        RelabelledSource(source=plain, labels=tmp_path / "gone.npy").label(0)


def test_images_need_no_labels(tmp_path: Path) -> None:
    unlabelled = PatchesConf(has_labels=False)
    asked = tiny(
        output=tmp_path, epochs=1, source=unlabelled, evaluated=True, callbacks=[ClusterLabelsConf(num_clusters=3)]
    )
    assert (launch(asked).folder / "cluster_labels.npy").is_file()


def test_mistakes_are_found_by_the_plan(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"callbacks.0: reads the images as data.val says"):
        plan(tiny(output=tmp_path, epochs=1, callbacks=[ClusterLabelsConf(num_clusters=3)]), "run")
    with pytest.raises(ConfigError, match=r"num_clusters: got 25; there are only 24 images"):
        plan(tiny(output=tmp_path, epochs=1, evaluated=True, callbacks=[ClusterLabelsConf(num_clusters=25)]), "run")
