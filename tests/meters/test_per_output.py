"""PerOutput: a meter for each output, under its name."""

import dataclasses

import pytest
import torch
from facts import FACTS

from ssltyped.meters.accuracy import TopKAccuracy, TopKAccuracyConf
from ssltyped.meters.per_output import PerOutput, PerOutputConf


def test_outputs_are_measured_apart() -> None:
    both = PerOutput(meter=TopKAccuracy(topk=[1, 2]), names=["good", "bad"])
    target = torch.arange(4)
    good, bad = torch.eye(4), -torch.eye(4)
    both.update([good, bad], target)
    assert both.compute() == {"good_top1": 100.0, "good_top2": 100.0, "bad_top1": 0.0, "bad_top2": 0.0}
    both.reset()
    both.update([bad, good], target)
    assert (both.compute()["good_top1"], both.compute()["bad_top1"]) == (0.0, 100.0)


def test_names_are_inferred_from_the_outputs() -> None:
    config = PerOutputConf(meter=TopKAccuracyConf(topk=[1]))
    facts = dataclasses.replace(FACTS, output_dims=(10, 10, 5))
    assert [(i.field, i.value) for i in PerOutput.infer(config, facts)] == [("names", ["0", "1", "2"])]
    assert not list(PerOutput.infer(config, FACTS))
    assert [p.path for p in PerOutput.problems(config, FACTS)] == ["names"]
    for names, message in ((["a", "a", "b"], "must differ"), (["a", "b"], "2 names for 3 outputs")):
        (problem,) = PerOutput.problems(PerOutputConf(meter=TopKAccuracyConf(topk=[1]), names=names), facts)
        assert message in problem.message


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="must differ"):
        PerOutput(meter=TopKAccuracy(topk=[1]), names=["a", "a"])
    with pytest.raises(ValueError, match="names is None"):
        PerOutput(meter=TopKAccuracy(topk=[1])).compute()
    with pytest.raises(ValueError, match="got 1 outputs for the names"):
        PerOutput(meter=TopKAccuracy(topk=[1]), names=["a", "b"]).update([torch.eye(2)], torch.arange(2))
