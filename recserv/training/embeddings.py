"""Item vectors from behaviour: what goes together in sessions lies together.

Positive pointwise mutual information of the pair counts (context counts smoothed by a power, the whole shifted down),
factored by a truncated SVD: Levy & Goldberg 2014, Levy, Goldberg & Dagan 2015.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from recserv.training.covisitation import pair_counts
from recserv.training.linear_algebra import Matrix, truncated_svd, unit_rows
from recserv.training.sessions import Sessions

WINDOW = 5
STEP_DECAY = 0.8
CONTEXT_SMOOTHING = 0.75
SHIFT = 1.0
# Counts this small are worth half their information: rare pairs look more telling than they are.
_RARE = 1.0
SINGULAR_VALUE_POWER = 0.5


def behaviour_vectors(sessions: Sessions, item_count: int, dimensions: int, *, seed: int) -> Matrix:
    """float32 [n, d], rows of unit length, zero for an item that never goes with another one."""
    counts = pair_counts(sessions, item_count, window=WINDOW, backward=1.0, step_decay=STEP_DECAY)
    information = positive_information(counts)
    vectors, strengths = truncated_svd(information, dimensions, seed=seed)
    scaled = vectors * strengths**SINGULAR_VALUE_POWER
    scaled[np.diff(information.indptr) == 0] = 0
    return unit_rows(scaled)


def positive_information(counts: Any, *, smoothing: float = CONTEXT_SMOOTHING, shift: float = SHIFT) -> Any:
    """Shifted positive PMI of a CSR matrix of pair counts, damped for rare pairs; CSR float32, no stored zeros.

    pmi(i, j) = log(count(i, j) / (p(j) x rows(i))) - log(shift), where p(j) is the share of column j after its sum was
    raised to `smoothing`.
    """
    counts = counts.tocsr()
    rows = np.asarray(counts.sum(axis=1), np.float64).ravel()
    columns = np.asarray(counts.sum(axis=0), np.float64).ravel() ** smoothing
    share = columns / max(columns.sum(), 1e-12)
    row_of = np.repeat(np.arange(counts.shape[0], dtype=np.int32), np.diff(counts.indptr))
    row_term = np.log(np.maximum(rows, 1e-12)).astype(np.float32)
    column_term = np.log(np.maximum(share, 1e-300)).astype(np.float32)
    information: npt.NDArray[np.float32] = np.log(counts.data) - row_term[row_of] - column_term[counts.indices]
    information -= np.float32(np.log(shift))
    information *= counts.data / (counts.data + np.float32(_RARE))
    result = counts.copy()
    result.data = np.maximum(information, 0).astype(np.float32)
    result.eliminate_zeros()
    return result
