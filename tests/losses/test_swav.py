"""SwAV beyond what `test_proofs.py` proves of every loss."""

from __future__ import annotations

import pytest
import torch
from losses.list import swav as made
from losses.proofs import LinearModel, at, waves
from losses.told import inferred, problems
from torch import nn

from ssltyped.heads.mlp import MLPHead
from ssltyped.heads.plumbing import HeadSequence
from ssltyped.heads.prototypes import PrototypesHead
from ssltyped.losses.swav import SwAVLoss, SwAVLossConf
from ssltyped.types import Batch


def swav(**changes: object) -> SwAVLoss:
    return made(changes)


def batch(views: int = 3) -> Batch:
    return Batch(views=tuple(waves(4, 5, 1, 1) + v for v in range(views)), index=torch.arange(4))


def test_the_queue_is_used_when_it_is_full_and_not_before_its_start() -> None:
    loss = swav(queue_size=8, local_queue_size=8, queue_start_steps=1).double()
    model, used = LinearModel(scored=(6,)), []
    for step in range(5):
        used.append(loss.uses_queue(at(step)))
        loss.update(model, [loss.step(model, batch(), at(step)).carry], at(step))
    assert used == [False, False, False, True, True], "filled in steps 1 and 2, used from step 3 on"
    assert loss.filled == 8


def test_prototypes_have_length_1_after_an_update_only_if_asked() -> None:
    for normalize in (True, False):
        loss, model = swav(normalize_prototypes=normalize), LinearModel(scored=(6,))
        loss.update(model, [], at(0))
        lengths = model.scored[0].norm(dim=0)
        assert torch.allclose(lengths, torch.ones(6, dtype=torch.float64)) is normalize


def test_codes_are_hard_for_the_first_steps() -> None:
    loss = swav(hard_assignment_steps=1)
    scores = waves(8, 6)
    assert set(loss.codes(scores, at(0)).flatten().tolist()) == {0.0, 1.0}
    assert loss.codes(scores, at(1)).max() < 1


def test_what_it_infers_and_refuses() -> None:
    asked = SwAVLossConf(queue_size=3840, queue_start_epochs=2.0, crops_for_assign=[0, 5])
    known = inferred(asked, world_size=8, ranks_per_node=8, batch_size=8, num_images=640, outputs=(128, 3000))
    assert known == {
        "embedding_dim": 128,
        "local_queue_size": 480,
        "hard_assignment_steps": 0,
        "queue_start_steps": 20,
    }
    wrong = problems(asked, batch_size=7, outputs=(128,))
    assert "crops_for_assign: got [0, 5], but the data makes the crops 0 to 1" in wrong
    assert "queue_size: got 3840, no multiple of the 7 images of a step" in wrong
    assert "head: needs a head with an embedding and scores, as PrototypesHead gives them; head has 1" in wrong
    bare = {"head": (MLPHead, nn.Linear)}
    scores = "queue_size: the head head has no prototypes to score the queue with: use PrototypesHead"
    assert problems(SwAVLossConf(queue_size=8), (128, 30), batch_size=8, head_kinds=bare) == scores
    assert problems(SwAVLossConf(), (128, 30), batch_size=8, head_kinds=bare) == ""
    kinds = {"head": (HeadSequence, PrototypesHead)}
    assert problems(SwAVLossConf(queue_size=8), (128, 30), batch_size=8, head_kinds=kinds) == ""
    with pytest.raises(ValueError, match="needs an embedding and scores; the head gives 1 output"):
        swav().step(LinearModel(), batch(), at(0))
