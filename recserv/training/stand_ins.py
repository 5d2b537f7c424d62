"""Which vectors go into the index, where many items share one or are variants of one product.

A graph of near neighbours falls apart where points are equal: 1,500 variants that read alike link to each other and to
nothing else, a search that comes upon one of them finds the others and no other product, and k of their neighbours are
k times the same. So of the items that nothing tells apart a few stand in the index for all, one of a group of variants.
A stand-in must be fit to be shown: available items are preferred, then more popular ones.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recserv.training.linear_algebra import Matrix

ALIKE_MAX = 8
"""Items with the same vector that are not known to be variants: they may be products of their own."""
_STEPS = 1 << 12
"""What differs by less than a step in no coordinate is the same: products of matrices differ in their last bits."""


def indexed_rows(
    vectors: Matrix, groups: npt.NDArray[np.int32], available: npt.NDArray[np.uint8]
) -> npt.NDArray[np.int64]:
    """Ascending rows of the items that are to be found by their vector. vectors float32 [n, d], rows of unit
    length or zero (those are left out); groups int32 [n], -1 for an item on its own, or empty; available uint8 [n].
    """
    rows = np.flatnonzero(vectors.any(axis=1))
    rows = rows[np.argsort(available[rows] == 0, kind="stable")]
    if len(groups):
        alone = np.flatnonzero(groups[rows] < 0)
        _, first = np.unique(groups[rows], return_index=True)
        first = first[groups[rows[first]] >= 0]
        rows = rows[np.sort(np.concatenate((alone, first)))]
    return np.sort(rows[_among_first(np.rint(vectors[rows] * _STEPS).astype(np.int16), ALIKE_MAX)])


def _among_first(keys: npt.NDArray[np.int16], most: int) -> npt.NDArray[np.int64]:
    """Places of the rows with fewer than `most` equal ones before them."""
    if not len(keys):
        return np.empty(0, np.int64)
    whole = np.ascontiguousarray(keys).view(np.dtype((np.void, keys.dtype.itemsize * keys.shape[1]))).ravel()
    _, kind = np.unique(whole, return_inverse=True)
    order = np.argsort(kind, kind="stable")
    begins = np.flatnonzero(np.diff(kind[order], prepend=-1))
    place = np.arange(len(order)) - np.repeat(begins, np.diff(np.append(begins, len(order))))
    return np.sort(order[place < most])
