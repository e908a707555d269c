"""Recorded evaluations: meters, kNN, retrieval of instances, precision and recall, whitening."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Union

import torch
import torch.nn.functional as F
from torch import Tensor

from ssltyped.evals.knn import knn_accuracy, knn_predict
from ssltyped.evals.retrieval import (
    GroundTruth,
    Whitening,
    ap_of_ranks,
    fit_whitening,
    gem,
    multiscale_gem,
    rmac,
    rmac_regions,
    rmac_vectors,
    score_rankings,
)
from ssltyped.meters.average_precision import MeanAveragePrecision, precision_recall
from ssltyped.meters.topk import PrecisionAtK, RecallAtK, TopKAccuracy, TopKMeter
from ssltyped.types import Meter
from tools.golden.arrays import Adapter, Bug, Case, Inputs, Tree, read_params


@dataclass
class Meters:
    num_meters: int
    topk_values: list[int] = field(default_factory=list)
    meter_names: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return self.meter_names or [str(number) for number in range(self.num_meters)]


def updated(meters: Sequence[Meter], x: Inputs) -> None:
    """Every batch, an output a meter."""
    for batch in x.parts("batches"):
        for meter, output in zip(meters, batch.tensors("outputs"), strict=True):
            meter.update(output, batch.tensor("target"))


def by_name(names: Sequence[str], values: Sequence[Tree]) -> Mapping[str, Tree]:
    """The values of each name: one, or a list where a name comes again."""
    found: dict[str, list[Tree]] = {}
    for name, value in zip(names, values, strict=True):
        found.setdefault(name, []).append(value)
    return {name: several[0] if len(several) == 1 else several for name, several in found.items()}


def topk_meter(kind: type[TopKMeter], key: str) -> Adapter:
    """The adapter of a meter whose values have names such as `top1`."""

    def adapter(case: Case, x: Inputs) -> Mapping[str, Tree]:
        params = read_params(case, Meters)
        meters = [kind(topk=params.topk_values) for _ in params.names]
        updated(meters, x)
        values = [meter.compute() for meter in meters]
        return {
            "value": {
                f"top_{k}": by_name(params.names, [value[key.format(k)] for value in values])
                for k in params.topk_values
            }
        }

    return adapter


def mean_ap(case: Case, x: Inputs) -> Mapping[str, Tree]:
    """A class that no image has is nan in ours and -1 there; of a name that comes again the APs are nested there."""
    params = read_params(case, Meters)
    meters = [MeanAveragePrecision() for _ in params.names]
    updated(meters, x)
    means = [meter.compute()["mAP"] for meter in meters]
    per_class = [(meter.per_class() / 100).nan_to_num(-1.0).tolist() for meter in meters]
    nested: dict[str, list[Tree]] = {}
    for name, values in zip(params.names, per_class, strict=True):
        nested[name] = [*nested[name], values] if name in nested else list(values)
    return {"value": {"mAP": by_name(params.names, means), "AP": nested}}


@dataclass
class Neighbours:
    k: int
    temperature: float
    l2_norm: bool
    num_classes: int


def knn(case: Case, x: Inputs) -> Mapping[str, Tree]:
    """Predictions with equally many votes may come in any order: those that were recorded then stand for ours.

    So they do for a query whose recorded votes overflowed.
    """
    params = read_params(case, Neighbours)
    bank, labels = x.tensor("train_features"), x.tensor("train_targets")
    queries, targets = x.tensor("test_features"), x.tensor("test_targets")
    options = Votes(min(params.k, len(bank)), params.num_classes, params.temperature, params.l2_norm)
    ranked = knn_predict(bank, labels, queries, **options._asdict())
    accuracy: Mapping[str, Tree] = knn_accuracy(bank, labels, queries, targets, **options._asdict())
    recorded, votes = x.recorded.tensor("predictions_top5"), counted(bank, labels, queries, options)
    ours = torch.where(ranked < 0, 0, votes.gather(1, ranked.clamp(min=0)))  # -1: no class has a vote
    same = torch.isclose(ours, votes.gather(1, recorded), rtol=1e-5, atol=1e-12)
    # No tolerance accepts a class of -1000.
    ranked = torch.where(same, recorded, -1000)
    lost = overflowed(case, x)
    if lost.any():
        ranked = torch.where(lost[:, None], recorded, ranked)
        accuracy = {f"top{t}": 100 * (ranked[:, :t] == targets[:, None]).any(1).double().mean() for t in (1, 5)}
    return {**accuracy, "total": len(queries), "predictions_top5": ranked}


class Votes(NamedTuple):
    """The options of kNN."""

    k: int
    num_classes: int
    temperature: float
    normalize: bool


def counted(bank: Tensor, labels: Tensor, queries: Tensor, options: Votes) -> Tensor:
    """The votes of each class for each query, over that of its nearest neighbour."""
    if options.normalize:
        bank, queries = F.normalize(bank), F.normalize(queries)
    nearest = (queries @ bank.T).topk(options.k)
    votes = ((nearest.values - nearest.values[:, :1]).double() / options.temperature).exp()
    return votes.new_zeros(len(queries), options.num_classes).scatter_add_(1, labels[nearest.indices], votes)


def overflowed(case: Case, x: Inputs) -> Tensor:
    """Which queries have a vote of inf in float32, where votes are not taken over the largest."""
    params = read_params(case, Neighbours)
    nearest = (x.tensor("test_features") @ x.tensor("train_features").T).amax(dim=1)
    return (nearest / params.temperature).exp().isinf() & (not params.l2_norm)


@dataclass
class Retrieval:
    p: Union[float, str] = 3.0
    clamp: bool = True
    add_bias: bool = False
    dim: int = 1
    rmac_levels: int = 3
    pca_components: int = 1
    n_components: int = 1
    nres: int = 1
    ranks: list[int] = field(default_factory=list)
    kappas: list[int] = field(default_factory=list)
    gnd: list[Mapping[str, list[int]]] = field(default_factory=list)


def generalized_mean(case: Case, x: Inputs) -> Mapping[str, Tree]:
    params = read_params(case, Retrieval)
    return {"y": gem(x.tensor("x"), float(params.p), clamp=params.clamp, bias=params.add_bias)}


def average_gem(case: Case, x: Inputs) -> Mapping[str, Tree]:
    params = read_params(case, Retrieval)
    return {"y": multiscale_gem(x.tensors("xs"), float(params.p), clamp=params.clamp, bias=params.add_bias)}


def unit_length(case: Case, x: Inputs) -> Mapping[str, Tree]:
    return {"y": F.normalize(x.tensor("x"), dim=read_params(case, Retrieval).dim)}


def regional_maxima(case: Case, x: Inputs) -> Mapping[str, Tree]:
    params, maps = read_params(case, Retrieval), x.tensor("features")
    levels = params.rmac_levels
    regions = rmac_regions(maps.shape[2], maps.shape[3], levels)
    whitening = fit_whitening(x.tensor("pca_train"), params.pca_components)
    facing = faced(whitening, x.recorded.tensor("pca_DVt"))
    return {
        "descriptors": rmac_vectors(maps, levels),
        "descriptors_unnormalised": rmac_vectors(maps, levels, normalize=False),
        "regions_xywh": torch.tensor([[r.left, r.top, r.side, r.side] for r in regions]),
        "pca_mean": whitening.mean[None],
        "pca_DVt": facing.projection,
        "descriptors_pca": rmac(maps, levels, whitening=facing),
    }


def pca(case: Case, x: Inputs) -> Mapping[str, Tree]:
    whitening = fit_whitening(x.tensor("X"), read_params(case, Retrieval).n_components)
    facing = faced(whitening, x.recorded.tensor("DVt"))
    return {"mean": whitening.mean[None], "DVt": facing.projection, "apply": facing(x.tensor("Y"))}


def faced(whitening: Whitening, recorded: Tensor) -> Whitening:
    """With each component in the direction that was recorded: both are right."""
    same = (whitening.projection * recorded).sum(dim=1, keepdim=True) >= 0
    return Whitening(whitening.mean, torch.where(same, whitening.projection, -whitening.projection))


def compute_ap(case: Case, x: Inputs) -> Mapping[str, Tree]:
    params = read_params(case, Retrieval)
    ap = ap_of_ranks(params.ranks, params.nres)
    return {"compute_ap": ap, "score_ap_from_ranks_1": ap}


def compute_map(case: Case, x: Inputs) -> Mapping[str, Tree]:
    params = read_params(case, Retrieval)
    truth = [GroundTruth(query["ok"], query.get("junk", [])) for query in params.gnd]
    scores = score_rankings(x.tensor("ranks"), truth, params.kappas)
    return {"map": scores.mean_ap, "aps": scores.aps, "pr": scores.mean_precisions, "prs": scores.precisions}


def get_precision_recall(case: Case, x: Inputs) -> Mapping[str, Tree]:
    """Of images with the same score the last one comes first there, so they are given from the last one on."""
    weights = x.tensor("weights").flip(0) if "weights" in x else None
    curve = precision_recall(x.tensor("targets").flip(0), x.tensor("scores").flip(0), weights)
    return {"P": curve.precision, "R": curve.recall, "score": curve.scores, "ap": curve.average_precision}


METERS: Mapping[str, Adapter] = {
    "accuracy_list_meter": topk_meter(TopKAccuracy, "top{}"),
    "precision_at_k_list_meter": topk_meter(PrecisionAtK, "precision_at_{}"),
    "recall_at_k_list_meter": topk_meter(RecallAtK, "recall_at_{}"),
    "mean_ap_list_meter": mean_ap,
}

ADAPTERS: Mapping[str, Adapter] = {
    **{f"{component}/{name}": adapter for component in ("meter", "meter_ws2") for name, adapter in METERS.items()},
    "knn/run_knn_at_layer": knn,
    "knn/run_knn_at_layer_low_memory": knn,
    "svm_utils/get_precision_recall": get_precision_recall,
    "instance_retrieval/gem": generalized_mean,
    "instance_retrieval/get_average_gem": average_gem,
    "instance_retrieval/l2n": unit_length,
    "instance_retrieval/rmac": regional_maxima,
    "instance_retrieval/compute_ap": compute_ap,
    "instance_retrieval/compute_map": compute_map,
    "pca/PCA": pca,
}

OVERFLOW = Bug(
    "votes of features that are not normalized overflow to inf", lambda case, x: bool(overflowed(case, x).any())
)

BUGS: Mapping[str, Sequence[Bug]] = {
    "knn/run_knn_at_layer": [OVERFLOW],
    "knn/run_knn_at_layer_low_memory": [OVERFLOW],
}
