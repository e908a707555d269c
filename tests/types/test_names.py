"""What a user calls the parts of a model and of a method."""

from __future__ import annotations

import pytest
from torch import nn

from ssltyped.types import (
    as_named,
    named,
    parameters_of,
)


def test_parts_are_named_as_a_user_sees_them() -> None:
    module = nn.Module()
    module.model, module.loss = nn.Module(), nn.Module()
    module.model.heads = nn.ModuleDict({"projector": nn.Linear(2, 3)})
    module.loss.teacher = nn.Module()
    module.loss.teacher.model = nn.Linear(2, 3)
    projector = module.model.heads["projector"]
    assert named(module, "heads.projector") is named(module.model, "heads.projector") is projector
    assert named(module, "heads.projector.bias") is projector.bias
    assert named(module, "loss.teacher.model") is module.loss.teacher.model
    assert as_named("model.heads.projector.bias") == "heads.projector.bias"
    assert as_named("loss.teacher.model.bias") == "loss.teacher.model.bias"
    assert [tuple(p.shape) for p in parameters_of(module, "heads")] == [(3, 2), (3,)]
    assert parameters_of(module, "heads.projector.bias") == [projector.bias]
    for name, nearest in (("heads.projecter", "heads.projector"), ("model.heads", ""), ("", "")):
        with pytest.raises(ValueError, match=f"no module and no parameter '{name}'.*{nearest}"):
            named(module, name)
