"""Layouts: renaming, reshaping, extras, what only we have, and errors that say all that does not fit."""

import pytest
import torch
from torch import nn

from ssltyped.weights.layout import Layout

LAYOUT = Layout(
    renames=[(r"^0\.", "conv."), (r"^1\.", "fc."), (r"^conv\.", "stem.conv.")],
    extras=lambda module: {"stem.scale": torch.ones(3)},
    dropped=r"^2\.",
    shapes=[(r"^0\.weight$", (4, 3))],
)


def network() -> nn.Sequential:
    """A 1x1 convolution that they hold as a linear layer, a linear layer, and a batch norm that they do not have."""
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.Linear(4, 2), nn.BatchNorm1d(2))


def test_renames_are_applied_in_their_order() -> None:
    assert LAYOUT.name("0.weight") == "stem.conv.weight"
    assert LAYOUT.name("1.bias") == "fc.bias"
    assert Layout().name("0.weight") == "0.weight"


def test_export_has_their_names_shapes_and_extras_and_not_what_only_we_have() -> None:
    module = network()
    theirs = LAYOUT.export(module)
    shapes = {key: tuple(value.shape) for key, value in theirs.items()}
    assert list(shapes.items()) == [
        ("stem.conv.weight", (4, 3)),
        ("stem.conv.bias", (4,)),
        ("fc.weight", (2, 4)),
        ("fc.bias", (2,)),
        ("stem.scale", (3,)),
    ]
    assert torch.equal(theirs["stem.conv.weight"], module.get_parameter("0.weight").flatten(1))


def test_load_takes_every_entry_and_leaves_what_only_we_have() -> None:
    one, other = network(), network()
    nn.init.constant_(other.get_parameter("2.weight"), 5.0)
    LAYOUT.load(other, LAYOUT.export(one))
    for key in ("0.weight", "0.bias", "1.weight", "1.bias"):
        assert torch.equal(other.state_dict()[key], one.state_dict()[key])
    assert (other.get_parameter("2.weight") == 5.0).all()


def test_everything_that_does_not_fit_is_said_at_once_and_nothing_is_loaded() -> None:
    module = network()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    theirs = {key: value + 1 for key, value in LAYOUT.export(module).items()}
    theirs["fc.wieght"] = theirs.pop("fc.weight")
    theirs["stem.conv.weight"] = torch.zeros(5, 3)
    with pytest.raises(ValueError, match="the weights do not fit Sequential") as caught:
        LAYOUT.load(module, theirs)
    text = str(caught.value)
    assert "fc.weight is missing; did you mean 'fc.wieght'?" in text
    assert "fc.wieght has no place; did you mean 'fc.weight'?" in text
    assert "stem.conv.weight has the shape (5, 3), and (4, 3) is needed" in text
    torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)
