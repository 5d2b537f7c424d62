"""Ranking: the candidates of all sources in one table, a row of features each, a score, the best k.

    CandidateTable.begin     what may be recommended
    .add, .put               the sources' lists; a candidate is one row, whichever sources brought it up
    .rank                    features -> Scorer -> top k with what each source contributes to the score

Features (float32 [rows, FEATURES], columns as in ranking_features.FEATURES) are what sources, session and popularity say
of an item. The NumPy twins stand in tests/ext/oracles.py.
"""

from libc.math cimport log1pf, logf
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memcpy, memset

import numpy as np

from columns cimport (
    AFTER, CONTEXT_COSINE, COUNT, COVISITATION_LAST_ITEM, FEATURES, GROUPS, IMPORTANCE, IN_SESSION, IN_SESSION_UNIQUE,
    LAST_ITEM_COSINE, POPULARITY, POPULARITY_RECENT, POPULARITY_TREND, ROW, SCALED, SESSION_COUNT, SESSION_LAST,
    SESSION_LENGTH, SESSION_RECENCY, SESSION_UNIQUE, SESSION_WEIGHT, SESSION_WIDTH, TABLE, WEIGHT,
)
from facts cimport Fact, add_to_total, categorise
from mlp cimport FEATURES_MAX, HIDDEN_MAX, LANES, Perceptron, contribution_rows, score_rows
from prefetch cimport prefetch
from topk cimport offer, worse
from vectors cimport dot, prefetch_row, scale_by_largest, two_dots

from recserv import ranking_features
from recserv.ranking_features import FEATURE_NAMES, NO_GROUP, Neutral

if TABLE != ranking_features.TABLE:
    raise ImportError("compiled for another table of features: setup.py build_ext --inplace")
if ROW % LANES or ROW > FEATURES_MAX:
    raise ImportError(f"{ROW} columns are not whole lanes of {LANES}, {FEATURES_MAX} at most")

cdef enum:
    AHEAD = 8
    CATEGORIES_MAX = 20

# Columns of the sources' scores, and of their logarithms.
cdef Py_ssize_t scaled[SCALED]
cdef Py_ssize_t scaled_logs[SCALED]
for _place, (_score, _log) in enumerate(ranking_features.SCALED):
    scaled[_place], scaled_logs[_place] = _score, _log

FACT = np.dtype(
    [("popularity", np.float32), ("popularity_recent", np.float32), ("log_importance", np.float32), ("category", np.int32)]
)


cdef class Scorer:
    """score = skip . x + out . relu(hidden^T x + bias) over x, the standardised features clipped at `limit`.

    names: of the features, any subset of FEATURE_NAMES in any order; mean, scale (> 0), skip: float32 [f]; hidden:
    float32 [f, h]; bias, out: float32 [h], h <= 64. Features that are not named count nothing. Raises ValueError.
    """

    cdef Perceptron perceptron
    cdef tuple kept

    def __init__(self, names, mean, scale, skip, hidden, bias, out, float limit=6.0):
        cdef Py_ssize_t h = len(out)
        at = [FEATURE_NAMES.index(name) for name in names]
        if len(set(at)) != len(at):
            raise ValueError("a feature is named twice")
        columns = [np.asarray(values, np.float32) for values in (mean, scale, skip)]
        inner = np.asarray(hidden, np.float32).reshape(len(at), h)
        ends = [np.ascontiguousarray(values, np.float32) for values in (bias, out)]
        if any(values.shape != (len(at),) for values in columns) or any(values.shape != (h,) for values in ends):
            raise ValueError("as many means, scales and weights as names, as many biases as hidden units")
        if not all(np.isfinite(values).all() for values in (*columns, inner, *ends)) or not (columns[1] > 0).all():
            raise ValueError("weights must be finite, scales positive")
        if h > HIDDEN_MAX or not limit > 0:
            raise ValueError(f"at most {HIDDEN_MAX} hidden units, a positive limit")
        full = [np.zeros(ROW, np.float32), np.ones(ROW, np.float32), np.zeros(ROW, np.float32)]
        for whole, values in zip(full, columns):
            whole[at] = values
        # Zeros up to a whole pair of tiles; one pair even without hidden units, so that there is an address.
        tiles = 2 * max((h + 2 * LANES - 1) // (2 * LANES), 1)
        weights = np.zeros((ROW, tiles * LANES), np.float32)
        weights[at, :h] = inner
        weights = np.ascontiguousarray(weights.reshape(ROW, tiles, LANES).transpose(1, 0, 2)).reshape(-1)
        padded_bias, padded_out = [np.pad(values, (0, tiles * LANES - h)) for values in ends]
        groups = np.full(ROW, NO_GROUP, np.int32)
        groups[:FEATURES] = ranking_features.GROUPS
        always = np.zeros(ROW, bool)
        always[:FEATURES] = [feature.neutral is Neutral.AVERAGE for feature in ranking_features.FEATURES]
        absent = np.clip(-full[0] / full[1], -limit, limit)
        neutral = np.where(always & (full[0] != 0), 0, absent).astype(np.float32)
        grouped = np.argsort(groups, kind="stable").astype(np.int32)
        starts = np.searchsorted(groups[grouped], np.arange(GROUPS + 1)).astype(np.int32)
        inverse = (1 / full[1]).astype(np.float32)
        self.kept = (full[0], inverse, full[2], neutral, grouped, starts, weights, padded_bias, padded_out)
        self.bind(full[0], inverse, full[2], neutral, grouped, starts, weights, padded_bias, padded_out)
        self.perceptron.features, self.perceptron.groups = ROW, GROUPS
        self.perceptron.tiles, self.perceptron.limit = tiles if h else 0, limit

    cdef bind(
        self, float[::1] mean, float[::1] inverse_scale, float[::1] skip, float[::1] neutral, int32_t[::1] grouped,
        int32_t[::1] group_starts, float[::1] hidden, float[::1] bias, float[::1] out,
    ):
        """Points at the arrays, which `kept` keeps alive."""
        self.perceptron.mean, self.perceptron.inverse_scale = &mean[0], &inverse_scale[0]
        self.perceptron.skip, self.perceptron.neutral = &skip[0], &neutral[0]
        self.perceptron.grouped, self.perceptron.group_starts = &grouped[0], &group_starts[0]
        self.perceptron.hidden, self.perceptron.bias, self.perceptron.out = &hidden[0], &bias[0], &out[0]

    def scores(self, const float[:, ::1] features):
        """float32 [m] of features float32 [m, FEATURES]."""
        if features.shape[1] != FEATURES:
            raise ValueError(f"{features.shape[1]} features, not {FEATURES}")
        result = np.empty(features.shape[0], np.float32)
        cdef float[::1] view = result
        cdef const float[:, ::1] rows = features
        if ROW != FEATURES:
            rows = np.pad(features, ((0, 0), (0, ROW - FEATURES)))
        if features.shape[0]:
            score_rows(&self.perceptron, &rows[0, 0], rows.shape[0], &view[0])
        return result


def linear_scorer(weights):
    """A Scorer without hidden units over raw features: weights by feature name."""
    names = tuple(weights)
    zeros = np.zeros(len(names))
    return Scorer(
        names, zeros, np.ones(len(names)), list(weights.values()), np.zeros((len(names), 0)), (), (), limit=1e30
    )


cdef class CandidateTable:
    """Merges candidate lists, turns them into features, ranks them.

    embeddings: float32 [n, d]; popularity, popularity_recent (0..1), importance: float32 [n]; categories: int32 [n],
    the main one of each item, -1 for none; neighbour_offsets, neighbours, strengths: the co-visitation lists.
    One thread at a time; the calls of one request must not be interleaved with another's.
    """

    cdef const float[:, ::1] embeddings
    cdef Fact[::1] facts
    cdef const int64_t[::1] neighbour_offsets
    cdef const int32_t[::1] neighbours
    cdef const float[::1] strengths
    cdef const uint8_t[::1] allowed
    cdef int32_t[::1] row_of
    cdef int32_t[::1] rows
    cdef uint8_t[::1] source_masks
    cdef float[::1] scores
    cdef float[:, ::1] table
    cdef int32_t[::1] best_items
    cdef float[::1] best_scores
    cdef int32_t[::1] best_rows
    cdef readonly Py_ssize_t capacity
    cdef readonly Py_ssize_t count

    def __init__(
        self, const float[:, ::1] embeddings, const float[::1] popularity, const float[::1] popularity_recent,
        const float[::1] importance, const int32_t[::1] categories, const int64_t[::1] neighbour_offsets,
        const int32_t[::1] neighbours, const float[::1] strengths, Py_ssize_t capacity=2048,
    ):
        cdef Py_ssize_t n = embeddings.shape[0]
        if not popularity.shape[0] == popularity_recent.shape[0] == importance.shape[0] == categories.shape[0] == n:
            raise ValueError("popularity, importance, category: one value for each item")
        if neighbour_offsets.shape[0] != n + 1 or neighbours.shape[0] != strengths.shape[0]:
            raise ValueError("co-visitation lists: one for each item, one strength for each neighbour")
        self.embeddings = embeddings
        facts = np.empty(max(n, 1), FACT)
        facts[:n]["popularity"], facts[:n]["popularity_recent"] = popularity, popularity_recent
        facts[:n]["log_importance"] = np.log(importance, where=np.asarray(importance) > 0, out=np.zeros(n, np.float32))
        facts[:n]["category"] = categories
        self.facts = facts
        self.neighbour_offsets, self.neighbours, self.strengths = neighbour_offsets, neighbours, strengths
        self.row_of = np.zeros(max(n, 1), np.int32)
        self.capacity = capacity
        self.rows = np.empty(capacity, np.int32)
        self.source_masks = np.zeros(capacity, np.uint8)
        self.scores = np.empty(capacity, np.float32)
        self.table = np.zeros((capacity, ROW), np.float32)
        self.best_items = np.empty(capacity, np.int32)
        self.best_scores = np.empty(capacity, np.float32)
        self.best_rows = np.empty(capacity, np.int32)
        self.allowed = np.ones(max(n, 1), np.uint8)
        self.count = 0

    def begin(self, const uint8_t[::1] allowed):
        """Empties the table. Only items with allowed[item] != 0 (uint8 [n]) become candidates from now on."""
        if allowed.shape[0] < self.embeddings.shape[0]:
            raise ValueError("allowed: one entry for each item")
        self.count = 0
        self.allowed = allowed

    cdef Py_ssize_t find(self, int32_t item) noexcept nogil:
        """The item's row, -1 for none. `row_of` may be of a request before: a row counts if it says the same of itself
        (a sparse set: Briggs & Torczon 1993), so that nobody has to clean up.
        """
        cdef Py_ssize_t r = self.row_of[item]
        return r if r < self.count and self.rows[r] == item else -1

    cdef Py_ssize_t row(self, int32_t item, uint8_t source) noexcept nogil:
        """The item's row, a new one if need be; -1 if it is not allowed, unknown, or the table is full."""
        cdef Py_ssize_t r
        if not 0 <= item < self.embeddings.shape[0] or not self.allowed[item]:
            return -1
        r = self.find(item)
        if r < 0:
            if self.count == self.capacity:
                return -1
            r = self.count
            self.row_of[item] = <int32_t>r
            self.rows[r] = item
            self.source_masks[r] = 0
            memset(&self.table[r, 0], 0, ROW * sizeof(float))
            self.count += 1
        self.source_masks[r] |= source
        return r

    def add(
        self, const int32_t[::1] items, const float[::1] scores, uint8_t source, Py_ssize_t score_column,
        Py_ssize_t rank_column,
    ):
        """A source's list, best first, with its bit and the columns of its scores, which are > 0 then, and of their
        ranks; -1: none of its own.
        """
        cdef Py_ssize_t i, r, place = 0
        if items.shape[0] != scores.shape[0]:
            raise ValueError("as many scores as items")
        if not (-1 <= score_column < FEATURES and -1 <= rank_column < FEATURES):
            raise ValueError(f"columns {score_column}, {rank_column}: the table has {FEATURES}")
        for i in range(items.shape[0]):
            if score_column >= 0 and not scores[i] > 0.0:
                continue
            r = self.row(items[i], source)
            if r >= 0:
                if score_column >= 0:
                    self.table[r, score_column] = scores[i]
                if rank_column >= 0:
                    self.table[r, rank_column] = 1.0 / <float>(1 + place)
                place += 1

    def put(self, const int32_t[::1] items, uint8_t source, Py_ssize_t limit=-1):
        """Items without scores: at most `limit` of them (-1: all) that are allowed."""
        cdef Py_ssize_t i, taken = 0
        for i in range(items.shape[0]):
            if taken == limit:
                return
            if self.row(items[i], source) >= 0:
                taken += 1

    def put_categories(
        self, const int32_t[::1] items, const float[::1] weights, const int64_t[::1] offsets,
        const int32_t[::1] listed, uint8_t source, Py_ssize_t most, Py_ssize_t each,
    ):
        """The first `each` allowed items listed under the `most` categories that weigh most among `items`."""
        cdef int32_t found[CATEGORIES_MAX]
        cdef float totals[CATEGORIES_MAX]
        cdef Py_ssize_t n = 0, i, c, best, taken, p
        for i in range(items.shape[0] - 1, -1, -1):
            if weights[i] > 0.0:
                n = add_to_total(self.facts[items[i]].category, weights[i], found, totals, n, CATEGORIES_MAX)
        for i in range(min(most, n)):
            best = 0
            for c in range(1, n):
                if totals[c] > totals[best]:
                    best = c
            totals[best] = -1.0
            taken = 0
            for p in range(offsets[found[best]], offsets[found[best] + 1]):
                if taken == each:
                    break
                if self.row(listed[p], source) >= 0:
                    taken += 1

    cdef void complete(
        self, const float[::1] context, const int32_t[::1] items, const float[:, ::1] session, float events
    ) noexcept nogil:
        """The features that are no source's list. `session` [n, SESSION_WIDTH]: of the context's items, newest last."""
        cdef Py_ssize_t r, i, p, m = self.count, n = items.shape[0], d = self.embeddings.shape[1]
        cdef int32_t item, last = -1
        cdef float unique = 0.0, seen = 0.0, strongest = 0.0
        cdef float* row
        cdef const float* newest
        cdef Fact* fact
        for i in range(n):
            if session[i, COUNT] > 0.0:
                unique += 1.0
                seen += session[i, COUNT]
                last = items[i]
        unique = unique / seen if seen > 0.0 else 0.0
        for i in range(n):
            r = self.find(items[i])
            if r >= 0 and session[i, COUNT] > 0.0:
                row = &self.table[r, 0]
                row[IN_SESSION] = 1.0
                row[SESSION_COUNT] = logf(session[i, COUNT])
                row[SESSION_RECENCY] = 1.0 / (1.0 + session[i, AFTER])
                row[SESSION_LAST] = 1.0 if items[i] == last else 0.0
                row[SESSION_WEIGHT] = session[i, WEIGHT]
                row[IN_SESSION_UNIQUE] = unique
        if last >= 0:
            for p in range(self.neighbour_offsets[last], self.neighbour_offsets[last + 1]):
                if self.strengths[p] > strongest:
                    strongest = self.strengths[p]
            for p in range(self.neighbour_offsets[last], self.neighbour_offsets[last + 1]):
                r = self.find(self.neighbours[p])
                if r >= 0:
                    self.table[r, COVISITATION_LAST_ITEM] = self.strengths[p] / strongest
        events = log1pf(events)
        newest = &self.embeddings[last, 0] if last >= 0 and d else NULL
        for r in range(m):
            if r + AHEAD < m:
                item = self.rows[r + AHEAD]
                if d:
                    prefetch_row(&self.embeddings[item, 0], d)
                prefetch(&self.facts[item])
            item = self.rows[r]
            row = &self.table[r, 0]
            if d:
                if newest != NULL:
                    two_dots(&self.embeddings[item, 0], &context[0], newest, d, &row[CONTEXT_COSINE], &row[LAST_ITEM_COSINE])
                else:
                    row[CONTEXT_COSINE] = dot(&self.embeddings[item, 0], &context[0], d)
            fact = &self.facts[item]
            row[POPULARITY] = fact.popularity
            row[POPULARITY_RECENT] = fact.popularity_recent
            row[POPULARITY_TREND] = fact.popularity_recent - fact.popularity
            row[SESSION_LENGTH] = events
            row[SESSION_UNIQUE] = unique
            row[IMPORTANCE] = fact.log_importance
        if n:
            categorise(&self.facts[0], &items[0], &session[0, COUNT], SESSION_WIDTH, n, last, &self.rows[0], m, &self.table[0, 0])
        for i in range(SCALED):
            scale_by_largest(&self.table[0, 0], m, ROW, scaled[i], scaled_logs[i])

    cdef check(self, const float[::1] context, const int32_t[::1] items, const float[:, ::1] session):
        cdef Py_ssize_t i
        if context.shape[0] != self.embeddings.shape[1]:
            raise ValueError(f"the context has {context.shape[0]} dimensions, the model {self.embeddings.shape[1]}")
        if session.shape[0] != items.shape[0] or session.shape[1] != SESSION_WIDTH:
            raise ValueError(f"session: a row of {SESSION_WIDTH} for each item")
        for i in range(items.shape[0]):
            if not 0 <= items[i] < self.embeddings.shape[0]:
                raise IndexError(f"session item {items[i]} is not in the model")

    def features(self, const float[::1] context, const int32_t[::1] items, const float[:, ::1] session, float events):
        """The whole table, for whoever learns from it: items int32 [m], features float32 [m, FEATURES], copies.

        context: float32 [d], all zero for none; items int32 [n] of the session, distinct, newest last; session: float32
        [n, 3], columns as in SESSION_COLUMNS (count 0: not of this session); events: how many there were.
        """
        self.check(context, items, session)
        self.complete(context, items, session, events)
        return np.array(self.rows[:self.count]), np.array(self.table[:self.count, :FEATURES])

    def rank(
        self, Scorer scorer, const float[::1] context, const int32_t[::1] items, const float[:, ::1] session,
        float events, Py_ssize_t k,
    ):
        """The k best candidates, best first; ties by item row; arguments as of `features`.

        Returns items int32 [k], scores float32 [k], features float32 [k, FEATURES], contributions float32 [k, 6]
        (columns as in CONTRIBUTION_NAMES), source_masks uint8 [k] (the bits of the sources); fewer rows if there are
        fewer candidates.
        """
        cdef Py_ssize_t i, r, m
        self.check(context, items, session)
        k = max(min(k, self.count), 0)
        with nogil:
            self.complete(context, items, session, events)
            score_rows(&scorer.perceptron, &self.table[0, 0], self.count, &self.scores[0])
            m = self.top(k)
        best_items = np.empty(m, np.int32)
        best_scores = np.empty(m, np.float32)
        features = np.empty((m, FEATURES), np.float32)
        best_contributions = np.empty((m, GROUPS), np.float32)
        source_masks = np.empty(m, np.uint8)
        cdef int32_t[::1] items_view = best_items
        cdef float[::1] scores_view = best_scores
        cdef float[:, ::1] features_view = features
        cdef float[:, ::1] contributions_view = best_contributions
        cdef uint8_t[::1] source_masks_view = source_masks
        with nogil:
            for i in range(m):
                r = self.best_rows[i]
                items_view[i] = self.rows[r]
                scores_view[i] = self.scores[r]
                source_masks_view[i] = self.source_masks[r]
                memcpy(&features_view[i, 0], &self.table[r, 0], FEATURES * sizeof(float))
            if m:
                contribution_rows(
                    &scorer.perceptron, &self.table[0, 0], &self.best_rows[0], m, &contributions_view[0, 0]
                )
        return best_items, best_scores, features, best_contributions, source_masks

    cdef Py_ssize_t top(self, Py_ssize_t k) noexcept nogil:
        """Rows of the k best into best_rows, sorted by insertion; how many there are."""
        cdef Py_ssize_t r, slot, size = 0, taken = 0
        for r in range(self.count):
            size = offer(&self.best_scores[0], &self.best_items[0], size, k, self.scores[r], self.rows[r])
        for r in range(self.count):
            if taken == size:
                break
            if self.scores[r] != self.scores[r]:
                continue
            if worse(self.scores[r], self.rows[r], self.best_scores[0], self.best_items[0]):
                continue
            slot = taken
            while slot > 0 and worse(
                self.scores[self.best_rows[slot - 1]], self.rows[self.best_rows[slot - 1]], self.scores[r], self.rows[r]
            ):
                self.best_rows[slot] = self.best_rows[slot - 1]
                slot -= 1
            self.best_rows[slot] = <int32_t>r
            taken += 1
        return taken
