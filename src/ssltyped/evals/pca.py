"""Principal components, each scaled to unit length: whitening of descriptors."""

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

FLOOR = 1e-5


@dataclasses.dataclass(frozen=True)
class Whitening:
    """y = P (x - mean): the coordinates of x along the first principal components, equally long over what was fitted.

    Args:
        mean: of the fitted rows.
        projection: P, with rows v_i^T / sqrt(d_i).
    """

    mean: Float[Tensor, "D"]
    projection: Float[Tensor, "P D"]

    def __call__(self, rows: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows P"]:
        return (rows - self.mean) @ self.projection.T


def fit_whitening(rows: Float[Tensor, "N D"], num_components: int) -> Whitening:
    """The whitening by the eigenvectors v_i of sum_n (x_n - mean)(x_n - mean)^T with the largest eigenvalues d_i.

    The sum is not divided by N, so the squares of each coordinate of the fitted rows add up to 1. Eigenvalues count as
    1e-5 of the largest at least, which keeps directions without variance from becoming large. The largest entry of
    each v_i is positive, so the result is the same wherever it is computed. It is computed in float64 and given in the
    dtype of the rows. Jegou and Chum 2012, "Negative evidences and co-occurences in image retrieval: the benefit of
    PCA and whitening", section 3. Memory: D^2.

    Raises:
        ValueError: fewer than 2 rows, or more components than a row has entries.
    """
    if len(rows) < 2 or not 1 <= num_components <= rows.shape[1]:
        raise ValueError(f"{num_components} components of {len(rows)} rows that are {rows.shape[1]} wide")
    exact = rows.double()
    mean = exact.mean(dim=0)
    centred = exact - mean
    values, vectors = torch.linalg.eigh(centred.T @ centred)
    values = values.clamp(min=FLOOR * float(values[-1]))
    chosen = vectors.T.flip(0)[:num_components]
    largest = chosen.gather(1, chosen.abs().argmax(dim=1, keepdim=True))
    projection = chosen * largest.sign() / values.flip(0)[:num_components, None].sqrt()
    return Whitening(mean.to(rows.dtype), projection.to(rows.dtype))
