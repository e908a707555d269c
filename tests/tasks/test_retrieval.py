"""recipes.evals.retrieval: test images find those of their class among the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from measured import labelled
from torch.nn import functional as F

from ssltyped import launch
from ssltyped.evals import Features
from ssltyped.evals.retrieval import GroundTruth, ranking, score_rankings
from ssltyped.tasks.retrieval import RetrievalEvalConf


@pytest.mark.usefixtures("forked_ranks")
def test_it_is_the_number_by_hand_and_that_of_two_processes(weights: Path, tmp_path: Path) -> None:
    asked = RetrievalEvalConf(weights=weights, data=labelled(40, test=13), cutoffs=[1, 4], output=tmp_path)
    run = launch(asked, name="retrieval")
    sides = [Features(run.folder / "features" / name) for name in ("images", "test")]
    database, queries = (F.normalize(torch.from_numpy(np.asarray(side["flatten"]))) for side in sides)
    labels, asked_for = (np.asarray(side.label) for side in sides)
    truth = [GroundTruth(np.flatnonzero(labels == label).tolist()) for label in asked_for]
    scores = score_rankings(ranking(database, queries, truth), truth, cutoffs=[1])
    assert run.metrics["retrieval_map.flatten"] == pytest.approx(100 * scores.mean_ap)
    assert run.metrics["retrieval_recall@1.flatten"] == pytest.approx(100 * float(scores.mean_precisions[0]))
    assert run.metrics["retrieval_recall@4.flatten"] >= run.metrics["retrieval_recall@1.flatten"]
    two = launch(asked, ["distributed.num_procs=2"], name="two")
    assert two.metrics == pytest.approx(run.metrics)
