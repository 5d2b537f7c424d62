"""Shared by embeddings and content vectors: a truncated SVD that is deterministic for a seed."""

from __future__ import annotations

import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from recserv._sparse import multiply

Matrix = npt.NDArray[np.float32]

_OVERSAMPLING = 16
_POWER_ITERATIONS = 2
_RANK_TOLERANCE = 1e-11
_ROWS_A_BLOCK = 1 << 14


def truncated_svd(matrix: Any, rank: int, *, seed: int) -> tuple[Matrix, Matrix]:
    """Left singular vectors float32 [n, rank] and singular values float32 [rank] of a sparse matrix, largest first.

    Randomised subspace iteration (Halko, Martinsson & Tropp 2011). A matrix of smaller rank or size gives zero columns
    at the end.
    """
    rows, columns = matrix.shape
    width = min(rank + _OVERSAMPLING, rows, columns)
    matrix, transposed = matrix.tocsr(), matrix.T.tocsr()
    sample = np.random.default_rng(seed).standard_normal((columns, width), np.float32)
    basis = _orthonormal(product(matrix, sample))
    for _ in range(_POWER_ITERATIONS):
        basis = _orthonormal(product(transposed, basis))
        basis = _orthonormal(product(matrix, basis))
    squares, rotation = _gram_eigen(product(transposed, basis))
    values = np.sqrt(squares).astype(np.float32)
    left = basis @ rotation.astype(np.float32)
    # A singular vector and its negative are the same answer: choose by the largest entry.
    signs = np.sign(left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])])
    left = left * np.where(signs == 0, 1, signs)
    kept = min(rank, width)
    vectors, strengths = np.zeros((rows, rank), np.float32), np.zeros(rank, np.float32)
    vectors[:, :kept], strengths[:kept] = left[:, :kept], values[:kept]
    return vectors, strengths


def product(sparse: Any, dense: Matrix) -> Matrix:
    """A sparse matrix (CSR) times a dense one, float32, on as many threads as there are processors; the result does not
    depend on how many there are.
    """
    offsets, columns = sparse.indptr.astype(np.int64), sparse.indices.astype(np.int32, copy=False)
    values, dense = np.ascontiguousarray(sparse.data, np.float32), np.ascontiguousarray(dense, np.float32)
    out = np.zeros((sparse.shape[0], dense.shape[1]), np.float32)
    parts = os.cpu_count() or 1
    cuts = np.searchsorted(offsets, np.linspace(0, offsets[-1], parts + 1)).tolist()
    cuts[0], cuts[-1] = 0, sparse.shape[0]
    with ThreadPoolExecutor(parts) as threads:
        for done in [
            threads.submit(multiply, offsets, columns, values, dense, begin, end, out)
            for begin, end in itertools.pairwise(cuts)
        ]:
            done.result()
    return out


def _orthonormal(matrix: Matrix) -> Matrix:
    """Orthonormal columns that span the columns of a tall matrix; zero columns where its rank falls short.

    By the eigenvectors of its Gram matrix, twice, because once loses accuracy with the square of the condition: on
    tall matrices several times as fast as a QR decomposition.
    """
    for _ in range(2):
        squares, rotation = _gram_eigen(matrix)
        kept = squares > squares.max(initial=0) * _RANK_TOLERANCE
        scale = np.where(kept, 1 / np.sqrt(np.where(kept, squares, 1)), 0)
        matrix = matrix @ (rotation * scale).astype(np.float32)
    return matrix


def _gram_eigen(matrix: Matrix) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Eigenvalues float64 [k], largest first and never negative, and eigenvectors float64 [k, k] of matrix^T matrix."""
    gram = np.zeros((matrix.shape[1], matrix.shape[1]))
    for first in range(0, len(matrix), _ROWS_A_BLOCK):
        block = matrix[first : first + _ROWS_A_BLOCK].astype(np.float64)
        gram += block.T @ block
    squares, rotation = np.linalg.eigh(gram)
    return np.maximum(squares[::-1], 0), rotation[:, ::-1]


def unit_rows(matrix: Matrix) -> Matrix:
    """Rows of unit length; rows that are (nearly) zero become exactly zero."""
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.where(norms > 1e-6, matrix / np.maximum(norms, 1e-6), 0).astype(np.float32)
