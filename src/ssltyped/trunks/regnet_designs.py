"""The published RegNets in numbers, and the stages that numbers make."""

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

import torch
from torchvision.models.regnet import BlockParams


class Design(NamedTuple):
    """A RegNet's numbers (see `RegNet`)."""

    depth: int
    w_0: int
    w_a: float
    w_m: float
    group_width: int


class RegNetName(Enum):
    """RegNets by the compute of one 224 x 224 image (multiplications and additions): X without, Y with squeezing."""

    X_400MF = "regnet_x_400mf"
    X_800MF = "regnet_x_800mf"
    X_1_6GF = "regnet_x_1.6gf"
    X_3_2GF = "regnet_x_3.2gf"
    X_8GF = "regnet_x_8gf"
    X_16GF = "regnet_x_16gf"
    X_32GF = "regnet_x_32gf"
    Y_400MF = "regnet_y_400mf"
    Y_800MF = "regnet_y_800mf"
    Y_1_6GF = "regnet_y_1.6gf"
    Y_3_2GF = "regnet_y_3.2gf"
    Y_8GF = "regnet_y_8gf"
    Y_16GF = "regnet_y_16gf"
    Y_32GF = "regnet_y_32gf"
    Y_64GF = "regnet_y_64gf"
    Y_128GF = "regnet_y_128gf"
    Y_256GF = "regnet_y_256gf"
    SEER_10B = "regnet_10b"


DESIGNS: Mapping[RegNetName, Design] = {
    RegNetName.X_400MF: Design(22, 24, 24.48, 2.54, 16),
    RegNetName.X_800MF: Design(16, 56, 35.73, 2.28, 16),
    RegNetName.X_1_6GF: Design(18, 80, 34.01, 2.25, 24),
    RegNetName.X_3_2GF: Design(25, 88, 26.31, 2.25, 48),
    RegNetName.X_8GF: Design(23, 80, 49.56, 2.88, 120),
    RegNetName.X_16GF: Design(22, 216, 55.59, 2.1, 128),
    RegNetName.X_32GF: Design(23, 320, 69.86, 2.0, 168),
    RegNetName.Y_400MF: Design(16, 48, 27.89, 2.09, 8),
    RegNetName.Y_800MF: Design(14, 56, 38.84, 2.4, 16),
    RegNetName.Y_1_6GF: Design(27, 48, 20.71, 2.65, 24),
    RegNetName.Y_3_2GF: Design(21, 80, 42.63, 2.66, 24),
    RegNetName.Y_8GF: Design(17, 192, 76.82, 2.19, 56),
    RegNetName.Y_16GF: Design(18, 200, 106.23, 2.48, 112),
    RegNetName.Y_32GF: Design(20, 232, 115.89, 2.53, 232),
    RegNetName.Y_64GF: Design(20, 352, 147.48, 2.4, 328),
    RegNetName.Y_128GF: Design(27, 456, 160.83, 2.52, 264),
    RegNetName.Y_256GF: Design(27, 640, 230.83, 2.53, 373),
    RegNetName.SEER_10B: Design(27, 1744, 620.83, 2.52, 1010),
}
"""Radosavovic et al. 2020, tables 5 and 6; 64, 128 and 256 GF: SEER (Goyal et al. 2021, arXiv 2103.01988); 10B: Goyal
et al. 2022 (arXiv 2202.08360)."""


def stages_of(design: Design, bottleneck_multiplier: float = 1.0) -> BlockParams:
    """The stages of a RegNet. Computed on the CPU also where trunks are built on another device."""
    with torch.device("cpu"):
        return BlockParams.from_init_params(*design, bottleneck_multiplier)
