"""Everybody's files: recognised by their names alone, filled whole, with the features of their own network."""

from pathlib import Path

import pytest
import torch
from torch import nn
from weights.published import PUBLISHED

from ssltyped import build
from ssltyped.model.model import default_feature
from ssltyped.weights.load import Load
from ssltyped.weights.pretrained import pretrained


@pytest.mark.parametrize("name", PUBLISHED)
def test_features_are_those_of_the_network_that_was_saved(name: str, tmp_path: Path) -> None:
    published = PUBLISHED[name]()
    path = published.save(tmp_path)
    found = pretrained(path)
    trunk, load = build(found.trunk).eval(), build(found.load)
    assert isinstance(load, Load)
    report = load(nn.ModuleDict({"trunk": trunk}))
    assert report.fits
    assert report.share == 1
    assert published.source in report.whose
    images = torch.rand(2, 3, published.size, published.size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        (got,) = trunk(images, [default_feature(trunk)])
        wanted = published.features(images)
    assert wanted.std() > 1e-3, "features that tell images apart"
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))
