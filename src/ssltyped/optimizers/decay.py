"""Which parameters weight decay moves, and how it changes over the run."""

from typing import Optional

from torch import nn

from ssltyped.config import config_for
from ssltyped.types import Component, Scheduler

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


class Decay(Component):
    """A parameter is decayed unless it is of a normalization layer and `norm` is False, or is a bias and `bias` is
    False, or another one of one dimension and `vector` is False, or is named in `exclude`.

    That norms are not decayed and the rest is, is the way of Goyal et al. 2017 (arXiv 1706.02677, section 5.1); the
    paper of ResNet (arXiv 1512.03385) decays norms too. `MATRICES` is that of methods that train with AdamW or LARS.

    Args:
        norm: weights (and, with bias, biases) of normalization layers are decayed too.
        bias: biases are decayed.
        vector: other parameters of one dimension (scales of layers, g of weight normalization) are decayed.
        exclude: parameters with one of these texts in their names are not decayed.
        schedule: weight decay over the run, whose highest value is the optimizer's weight_decay; null: it is constant.
    """

    def __init__(
        self,
        *,
        norm: bool = False,
        bias: bool = True,
        vector: bool = True,
        exclude: list[str] = [],  # noqa: B006  # never changed; a config shows it as a list
        schedule: Optional[Scheduler] = None,
    ) -> None:
        self.norm, self.bias, self.vector, self.exclude, self.schedule = norm, bias, vector, exclude, schedule

    def moves(self, name: str, parameter: nn.Parameter, module: nn.Module, norm: Optional[bool] = None) -> bool:
        """Whether a parameter of a module is decayed; `norm` is that of a group, if it has its own."""
        if any(text in name for text in self.exclude):
            return False
        is_norm, is_bias = isinstance(module, NORMS), name.endswith("bias")
        if is_norm and not (self.norm if norm is None else norm):
            return False
        if is_bias and not self.bias:
            return False
        return self.vector or is_norm or is_bias or parameter.ndim != 1


DecayConf = config_for(Decay)

MATRICES = DecayConf(bias=False, vector=False)
"""Matrices and kernels alone are decayed: as ViTs are trained (DeiT, arXiv 2012.12877; DINO, MAE), and as SimCLR
(arXiv 2002.05709, appendix B.6), BYOL and Barlow Twins are with LARS."""
