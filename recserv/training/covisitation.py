"""Co-visitation: weighted counts of which items follow or accompany which, and each item's strongest neighbours.

Sessions with an order count pairs up to `window` steps apart, nearer pairs more, the step back half as much as the
step forward. Baskets without an order count every pair once, each basket's weight shared by its items.

In a session with an order an item may follow itself: how often shoppers come back to it is part of what follows it, and
nothing else in the model says so (on a hold-out of Diginetica these pairs alone took the lists' HR@20 from .39 to .47).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recserv.model.layout import Array
from recserv.training.popular import first_of_groups
from recserv.training.sessions import Sessions

WINDOW = 6
BACKWARD = 0.5
STEP_DECAY = 0.8
NEIGHBOURS_MAX = 100
BASKET_ITEMS_MAX = 100
# Weight of a neighbour is divided by its popularity to this power.
POPULARITY_POWER = 0.1
GROUP_NEIGHBOURS_MAX = 3
"""Variants of one product in a list: of 1,500 each may have been seen with the item once."""

_ROWS_A_BLOCK = 4096


def arrays(sessions: Sessions, item_count: int, *, baskets: Any, groups: npt.NDArray[np.int32]) -> dict[str, Array]:
    """The source's part of a model, by the names of `layout.ARRAYS`. Arguments as of `covisitation`."""
    offsets, items, weights = covisitation(sessions, item_count, baskets=baskets, groups=groups)
    return {"covisitation_offsets": offsets, "covisitation_items": items, "covisitation_weights": weights}


def covisitation(
    sessions: Sessions,
    item_count: int,
    *,
    baskets: Any = None,
    neighbours: int = NEIGHBOURS_MAX,
    groups: npt.NDArray[np.int32] | None = None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Offsets int64 [n + 1], neighbours int32, weights float32: per item at most `neighbours`, heaviest first.

    `baskets`: what `basket_pairs` found, where it is known already. `groups`, int32 [n] or empty: of a group at most
    GROUP_NEIGHBOURS_MAX, and the item itself.
    """
    pairs = pair_counts(sessions, item_count, baskets=baskets, returns=True)
    popularity = np.bincount(sessions.items, minlength=item_count).astype(np.float32)
    discount = np.maximum(popularity, 1.0) ** -POPULARITY_POWER
    pairs.data *= discount[pairs.indices]
    return strongest(pairs, neighbours, groups)


def pair_counts(
    sessions: Sessions,
    item_count: int,
    *,
    window: int = WINDOW,
    backward: float = BACKWARD,
    step_decay: float = STEP_DECAY,
    baskets: Any = None,
    returns: bool = False,
) -> Any:
    """CSR float32 [n, n]: how strongly the column's item goes with the row's. An item goes with itself only with
    `returns`, as often as shoppers came back to it.
    """
    counts = ordered_pairs(sessions, item_count, window, backward, step_decay, returns=returns)
    if sessions.unordered.any():
        counts = counts + (basket_pairs(sessions, item_count) if baskets is None else baskets)
    counts.sort_indices()
    return counts


def ordered_pairs(
    sessions: Sessions, item_count: int, window: int, backward: float, step_decay: float, *, returns: bool
) -> Any:
    """Pairs of the sessions that have an order. A pair counts by the weight of the event that it leads to."""
    shape = (item_count, item_count)
    total = sp.csr_array(shape, dtype=np.float32)
    session = np.where(np.repeat(sessions.unordered, sessions.lengths()), -1, sessions.session_of())
    if not (session >= 0).any():
        return total
    items, weights = sessions.items, sessions.weights
    for step in range(1, window + 1):
        here = np.flatnonzero((session[:-step] == session[step:]) & (session[:-step] >= 0))
        there = here + step
        if not returns:
            different = items[here] != items[there]
            here, there = here[different], there[different]
        if len(here) == 0:
            continue
        decay = step_decay ** (step - 1)
        first, second = items[here], items[there]
        values = np.concatenate([weights[there] * decay, weights[here] * (decay * backward)]).astype(np.float32)
        rows, columns = np.concatenate([first, second]), np.concatenate([second, first])
        total = total + sp.coo_array((values, (rows, columns)), shape=shape).tocsr()
    return total


def basket_pairs(sessions: Sessions, item_count: int) -> Any:
    """Pairs of the sessions without an order, whose items are shuffled: a large basket counts BASKET_ITEMS_MAX of
    them. Every item of a basket of k items gives weight 1 / log2(k) to each other one: small baskets say more.
    """
    lengths = sessions.lengths()
    place = np.arange(len(sessions.items)) - np.repeat(sessions.offsets[:-1], lengths)
    chosen = np.repeat(sessions.unordered, lengths) & (place < BASKET_ITEMS_MAX)
    shape = (sessions.count, item_count)
    entries = (sessions.session_of()[chosen], sessions.items[chosen])
    baskets = sp.coo_array((np.ones(len(entries[0]), np.float32), entries), shape=shape).tocsr()
    baskets.data[:] = 1.0
    sizes = np.diff(baskets.indptr)
    share = (1.0 / np.log2(np.maximum(sizes, 2))).astype(np.float32)
    weighted = baskets.copy()
    weighted.data *= np.repeat(share, sizes)
    counts = (weighted.T.tocsr() @ baskets).tocsr()
    counts.setdiag(0)
    counts.eliminate_zeros()
    counts.sort_indices()
    return counts


def strongest(
    matrix: Any, count: int, groups: npt.NDArray[np.int32] | None = None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Per row of a CSR matrix its `count` largest positive entries, heaviest first, ties by column; of a group of
    columns (int32, -1 for none) at most GROUP_NEIGHBOURS_MAX, beside the diagonal.
    """
    matrix = matrix.tocsr()
    matrix.sort_indices()
    rows = matrix.shape[0]
    kept_lengths = np.zeros(rows, np.int64)
    columns: list[npt.NDArray[np.int32]] = []
    weights: list[npt.NDArray[np.float32]] = []
    for first in range(0, rows, _ROWS_A_BLOCK):
        pointers = matrix.indptr[first : min(first + _ROWS_A_BLOCK, rows) + 1].astype(np.int64)
        values = matrix.data[pointers[0] : pointers[-1]].astype(np.float32)
        row = np.repeat(np.arange(len(pointers) - 1, dtype=np.uint64), np.diff(pointers))
        # For positive floats the order of the bits is the order of the values.
        falling = np.uint64(0xFFFFFFFF) - values.view(np.uint32).astype(np.uint64)
        order = np.argsort((row << np.uint64(32)) | falling, kind="stable")
        lengths = np.diff(pointers)
        if groups is not None and len(groups):
            held = matrix.indices[pointers[0] : pointers[-1]][order]
            itself = held == row[order].astype(np.int64) + first
            of = np.where(itself, -1, groups[held])
            order = order[first_of_groups(row[order].astype(np.int32), of, GROUP_NEIGHBOURS_MAX)]
            lengths = np.bincount(row[order].astype(np.int64), minlength=len(lengths))
        place = np.arange(len(order)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        order = order[(place < count) & (values[order] > 0)]
        kept_lengths[first : first + len(pointers) - 1] = np.bincount(
            row[order].astype(np.int64), minlength=len(pointers) - 1
        )
        columns.append(matrix.indices[pointers[0] : pointers[-1]][order].astype(np.int32))
        weights.append(values[order])
    offsets = np.zeros(rows + 1, np.int64)
    np.cumsum(kept_lengths, out=offsets[1:])
    return offsets, np.concatenate(columns), np.concatenate(weights)
