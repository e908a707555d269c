"""What an untrained model is evaluated with: statistics of some batches, on one rank and on two."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from ranks import run_on_ranks
from tiny import tiny, tiny_trainer
from torch import Tensor, nn

from ssltyped import distributed
from ssltyped.engine.settled import settled
from ssltyped.evals.knn import knn_accuracy
from ssltyped.evals.online_knn import KNNConf
from ssltyped.heads.mlp import MLPHead
from ssltyped.model.model import SSLModel
from ssltyped.trunks.resnet import ResNet, Stem
from ssltyped.types import Batch, Subset


def model() -> SSLModel:
    torch.manual_seed(0)
    trunk = ResNet(depth=18, width_multiplier=0.0625, stem=Stem.SMALL)
    return SSLModel(trunk=trunk, heads={"head": MLPHead(dims=[8, 4], in_dim=32, use_bn=True)})


def norms(of: SSLModel) -> list[nn.modules.batchnorm._BatchNorm]:
    return [module for module in of.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def batches() -> list[Tensor]:
    return [torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(n)) + n for n in range(2)]


def first_layer(of: SSLModel, images: Tensor) -> Tensor:
    """What the first BatchNorm reads."""
    convolution = next(module for module in of.modules() if isinstance(module, nn.Conv2d))
    found: Tensor = convolution(images)
    return found.detach()


def test_statistics_are_the_mean_over_the_batches_and_the_model_stays_as_it_is() -> None:
    own = model()
    before = copy.deepcopy(own.state_dict())
    ready = settled(own, batches(), lambda model, view: model([view]))
    inputs = [first_layer(own, view) for view in batches()]
    means = [x.mean(dim=(0, 2, 3)) for x in inputs]
    variances = [x.var(dim=(0, 2, 3)) for x in inputs]
    norm = norms(ready)[0]
    torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(dim=0))
    torch.testing.assert_close(norm.running_var, torch.stack(variances).mean(dim=0))
    assert not any(module.training for module in ready.modules())
    assert own.training
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())


def test_what_was_trained_before_stays() -> None:
    own = model()
    kept = norms(own)[0]
    assert kept.running_mean is not None
    kept.running_mean.fill_(0.25)
    ready = settled(own, batches(), lambda model, view: model([view]))
    assert torch.equal(norms(ready)[0].running_mean, kept.running_mean)  # type: ignore[arg-type]  # it has one
    assert settled(ready, [], lambda model, view: pytest.fail("there is nothing to settle")) is ready


def on_a_rank() -> list[Tensor]:
    mine = batches()[distributed.rank() :: distributed.world_size()]
    found = norms(settled(model(), mine, lambda model, view: model([view])))
    return [norm.running_var for norm in found if norm.running_var is not None]


def test_ranks_agree() -> None:
    """Each has a batch; the first layer, whose input no statistics changed, has what one process has of both."""
    first, second = run_on_ranks(on_a_rank, 2)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    torch.testing.assert_close(first[0], on_a_rank()[0])


def test_before_the_first_step_it_is_what_an_evaluation_sees(tmp_path: Path) -> None:
    """By hand: the trunk sees the first view of the run's first batches in train mode, then all images in eval mode."""
    trainer = tiny_trainer(tiny(epochs=1, evaluated=True, callbacks=[KNNConf(k=3, at_start=True)]), tmp_path)
    trunk = copy.deepcopy(trainer.student.trunk)
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        for batch in trainer._one_pass():
            trunk.train()(batch.views[0], ["flatten"])
        trunk.eval()
        sides = []
        for subset in (Subset.TRAIN, Subset.VAL):
            read = trainer._data.evaluate(subset)
            found = [(trunk(trainer._data.normalize(batch).views[0], ["flatten"])[0], batch.label) for batch in read]
            sides += [torch.cat([x for x, _ in found]), torch.cat([label for _, label in found if label is not None])]
    torch.testing.assert_close(trainer.features(Subset.VAL)[0], sides[2])
    trainer.fit()
    wanted = knn_accuracy(*sides, k=3, temperature=0.07, num_classes=4)
    assert trainer.first["knn_top1"] == pytest.approx(wanted["top1"])
    assert not torch.allclose(trainer.features(Subset.VAL)[0], sides[2]), "after the first step, the model itself"


def test_the_batches_are_run_once_for_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An evaluation of both subsets reads the batches of the training once; other weights have other statistics."""
    trainer = tiny_trainer(tiny(epochs=1, evaluated=True), tmp_path)
    passes: list[int] = []
    one_pass = trainer._one_pass

    def counted() -> Iterator[Batch]:
        passes.append(1)
        yield from one_pass()

    monkeypatch.setattr(trainer, "_one_pass", counted)
    before = [trainer.features(subset)[0] for subset in (Subset.TRAIN, Subset.VAL, Subset.VAL)]
    assert len(passes) == 1
    assert torch.equal(before[1], before[2])
    list(trainer.outputs(Subset.VAL))
    assert len(passes) == 2, "the heads have statistics too"
    fresh = tiny_trainer(tiny(epochs=1, evaluated=True), tmp_path)
    with torch.no_grad():
        for own in (trainer, fresh):
            next(own.student.trunk.parameters()).mul_(-2)
    assert torch.equal(trainer.features(Subset.VAL)[0], fresh.features(Subset.VAL)[0])
    assert len(passes) == 3
    assert not torch.equal(trainer.features(Subset.VAL)[0], before[1])
