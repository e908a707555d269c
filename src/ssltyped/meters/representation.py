"""What embeddings say of themselves, without labels: have they collapsed, and do the views of an image meet?"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

EPSILON = 1e-7
"""Added to each share in `rankme`, as in the paper (for float32)."""


def rankme(z: Float[Tensor, "N D"]) -> float:
    """exp( - sum_k p_k log p_k ),  p_k = sigma_k / sum_j sigma_j + 1e-7, with the singular values sigma of z.

    The effective number of directions, from 1 to min(N, D): Garrido et al. 2023 (arXiv 2210.02885), eq. 1 and 2. nan
    where z is not finite. Time grows as N D min(N, D), in float64.
    """
    z = z.double()
    if not bool(torch.isfinite(z).all()):
        return math.nan
    gram = z @ z.T if len(z) < z.shape[1] else z.T @ z
    sigma = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    p = sigma / sigma.sum().clamp(min=torch.finfo(sigma.dtype).tiny) + EPSILON
    return float(torch.exp(-(p * p.log()).sum()))


def spread(z: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """sqrt(D) x the mean over dimensions of the standard deviation of u = z / |z|, in [0, 1].

    1 where the rows fill the sphere, 0 where all are one point: Chen and He 2021 (arXiv 2011.10566), section 4.1 and
    figure 2, there without the factor sqrt(D). VICReg (Bardes et al. 2022, arXiv 2105.04906, eq. 1) holds the same
    deviations, of z, above 1.
    """
    return F.normalize(z.detach(), dim=1).std(dim=0, correction=0).mean() * math.sqrt(z.shape[1])


def alignment(a: Float[Tensor, "N D"], b: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """mean over n of | a_n / |a_n| - b_n / |b_n| |^2, in [0, 4]: 0 where two views of an image are one point.

    Wang and Isola 2020 (arXiv 2005.10242), eq. 1 with alpha = 2.
    """
    return (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(dim=1).mean()


def uniformity(z: Float[Tensor, "N D"], t: float = 2.0) -> Float[Tensor, ""]:
    """log of the mean over pairs n != m of exp(-t | u_n - u_m |^2),  u = z / |z|: 0 for one point, at t = 2 about -4 at
    best.

    Wang and Isola 2020 (arXiv 2005.10242), eq. 2. Memory grows as N^2.
    """
    u = F.normalize(z, dim=1)
    return torch.log(torch.exp(-t * torch.pdist(u).square()).mean())


def agreement(a: Float[Tensor, "N D"], b: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """1 - (mean over n of |a_n - b_n|^2) / (mean over n != m of |a_n - b_m|^2): do rows of two kinds belong together?

    1 where each row of one is that of the other, 0 where it is no nearer than any other row, as for the views of images
    that cannot be told apart; nan where all rows are one point. Alignment relative to its chance level. N above 1.
    """
    a, b = a.double(), b.double()
    own = (a - b).square().sum(dim=1).mean()
    mean_a, mean_b = a.mean(dim=0), b.mean(dim=0)
    scatter = (a - mean_a).square().sum(dim=1).mean() + (b - mean_b).square().sum(dim=1).mean()
    every = scatter + (mean_a - mean_b).square().sum()  # the mean over all pairs, those with n = m too
    others = (every * len(a) - own) / (len(a) - 1)
    return 1 - own / others


def perplexity(mean: Float[Tensor, "K"]) -> Float[Tensor, ""]:
    """exp H(mean) of the mean of rows of shares: how many prototypes are in use, from 1 to K.

    H(mean) is what MSN maximizes (Assran et al. 2022, arXiv 2204.07141, eq. 2), and what Sinkhorn's balance fixes.
    """
    used: Tensor = torch.special.entr(mean).sum().exp()
    return used


def information(mean: Float[Tensor, "K"], entropy: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """H(mean of rows of shares) - mean of their entropies H, in nats: how much a row says of which image it is.

    From 0 to log min(N, K). 0 in either collapse of a method that teaches shares, all images one prototype, or every
    prototype equally: DINO (Caron et al. 2021, arXiv 2104.14294), section 5.3 and figure 7. The mutual information of
    Krause et al. 2010, "Discriminative clustering by regularized information maximization", eq. 2.
    """
    told: Tensor = torch.special.entr(mean).sum() - entropy
    return told


def pooled(x: Float[Tensor, "R *shape"]) -> Float[Tensor, "R D"]:
    """A feature averaged over its pixels (R, D, h, w), or tokens (R, T, D)."""
    return x.mean(dim=1) if x.ndim == 3 else x.flatten(2).mean(dim=2) if x.ndim > 3 else x
