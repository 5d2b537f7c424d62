"""What embeddings and content vectors share: a truncated SVD that gives the same result for the same seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]

_OVERSAMPLING = 16
_POWER_ITERATIONS = 2


def truncated_svd(matrix: Any, rank: int, *, seed: int) -> tuple[Matrix, Matrix]:
    """Left singular vectors float32 [n, rank] and singular values float32 [rank] of a sparse matrix, largest first.

    Randomised subspace iteration (Halko, Martinsson & Tropp 2011). A matrix of smaller rank or size gives zero columns
    at the end.
    """
    rows, columns = matrix.shape
    width = min(rank + _OVERSAMPLING, rows, columns)
    transposed = matrix.T.tocsr()
    sample = np.random.default_rng(seed).standard_normal((columns, width), np.float32)
    basis = np.linalg.qr(matrix @ sample)[0]
    for _ in range(_POWER_ITERATIONS):
        basis = np.linalg.qr(transposed @ basis)[0]
        basis = np.linalg.qr(matrix @ basis)[0]
    _, values, right = np.linalg.svd(transposed @ basis, full_matrices=False)
    left = basis @ right.T
    # A singular vector and its negative are the same answer: choose by the largest entry.
    signs = np.sign(left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])])
    left = left * np.where(signs == 0, 1, signs)
    kept = min(rank, width)
    vectors, strengths = np.zeros((rows, rank), np.float32), np.zeros(rank, np.float32)
    vectors[:, :kept], strengths[:kept] = left[:, :kept], values[:kept]
    return vectors, strengths


def unit_rows(matrix: Matrix) -> Matrix:
    """Rows of unit length; rows that are (nearly) zero become exactly zero."""
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.where(norms > 1e-6, matrix / np.maximum(norms, 1e-6), 0).astype(np.float32)
