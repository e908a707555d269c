"""IdentityHead gives back what it gets."""

import pytest
import torch

from ssltyped.heads.identity import IdentityHead


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4, 4)])
def test_identity(shape: tuple[int, ...]) -> None:
    head = IdentityHead(in_dim=3)
    x = torch.randn(shape)
    assert head(x) is x
    assert head.out_dim == 3
    assert list(head.parameters()) == []


def test_building_without_in_dim_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be built without in_dim"):
        IdentityHead()
