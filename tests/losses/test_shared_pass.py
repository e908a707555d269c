"""What several methods ask of a model in one step."""

from __future__ import annotations

import torch
from losses.proofs import LinearModel, PatchModel, waves

from ssltyped.losses.shared_pass import SharedPass, module_of


def test_the_same_views_go_through_once() -> None:
    model = LinearModel(apart=True, scored=(3,))
    shared = SharedPass(model, ["0", "1"])
    views = (waves(4, 5, 1, 1), waves(4, 5, 1, 1))
    first, again = shared(views, heads=["0"]), shared(views, heads=["1"])
    assert first is again
    assert len(model.calls) == 1
    shared(views[:1])
    shared((views[0].clone(), views[1]))
    assert len(model.calls) == 3, "other views are another pass"


def test_masks_and_other_features_are_passes_of_their_own() -> None:
    model = PatchModel()
    shared = SharedPass(model, ["head"])
    views = (waves(4, 5, 2, 2),)
    masks = (torch.zeros(4, 2, 2, dtype=torch.bool),)
    shared(views)
    shared(views, masks=masks)
    assert len(shared(views, features={"head": "lastCLS"}).all_of("head")) == 1
    assert len(model.calls) == 3


def test_the_module_behind_it() -> None:
    model = LinearModel()
    assert module_of(SharedPass(model, [])) is module_of(model) is model
