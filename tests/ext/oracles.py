"""NumPy twins of the kernels: slow, plain, and what the kernels are tested against."""

from __future__ import annotations

from collections import defaultdict

import numpy as np


def weigh(kinds, ages_s, type_weights, half_life_s, position_decay):
    n = len(kinds)
    after = np.arange(n - 1, -1, -1)
    return type_weights[kinds] * 2.0 ** (-ages_s.astype(np.float64) / half_life_s) * position_decay**after


def aggregate(items, weights, embeddings, beside=None):
    total = (embeddings[items].astype(np.float64) * weights[:, None].astype(np.float64)).sum(axis=0)
    if beside is not None:
        total = total + beside
    norm = np.linalg.norm(total)
    return total / norm if norm > 1e-12 else np.zeros_like(total)


def best(scores: dict[int, float], allowed, k):
    pairs = [(-score, item) for item, score in scores.items() if allowed[item] and score > 0]
    return [(item, -negative) for negative, item in sorted(pairs)[: max(k, 0)]]


def covisitation(context, weights, offsets, neighbours, strengths):
    scores: dict[int, float] = defaultdict(float)
    for item, weight in zip(context, weights, strict=True):
        if weight > 0:
            for p in range(offsets[item], offsets[item + 1]):
                scores[int(neighbours[p])] += float(weight) * float(strengths[p])
    return scores


def session_knn(
    context, weights, lists, *, neighbours, sessions_per_item, age_half_life, distance_decay, idf_power, reach
):
    item_offsets, item_sessions, session_offsets, session_items, session_age, idf = lists
    similarity: dict[int, float] = defaultdict(float)
    newest: dict[int, int] = {}
    for item, weight in list(zip(context, weights, strict=True))[::-1]:
        amount = float(np.float32(weight) * np.float32(idf[item]))
        if amount > 0:
            for session in item_sessions[item_offsets[item] : item_offsets[item + 1]][:sessions_per_item]:
                newest.setdefault(int(session), int(item))
                similarity[int(session)] += amount
    for session in similarity:
        length = session_offsets[session + 1] - session_offsets[session]
        similarity[session] /= np.sqrt(length)
        if age_half_life > 0:
            similarity[session] *= 0.5 ** (session_age[session] / age_half_life)
    scores: dict[int, float] = defaultdict(float)
    for _, session in sorted((-value, session) for session, value in similarity.items())[:neighbours]:
        members = session_items[session_offsets[session] : session_offsets[session + 1]].tolist()
        places = [p for p, item in enumerate(members) if item == newest[session]]
        meeting = places[-1] if places else 0
        for p, item in enumerate(members):
            if abs(p - meeting) < reach:
                amount = (
                    similarity[session] * np.exp(-distance_decay * abs(p - meeting)) * max(idf[item], 0) ** idf_power
                )
                if amount > 0:
                    scores[item] += amount
    return scores


def features(lists, context, session, embeddings, popularity, popularity_recent):
    """lists: (column, items, scores). Rows in the order in which the items first appear."""
    rows: dict[int, np.ndarray] = {}
    for column, items, scores in lists:
        for item, score in zip(items, scores, strict=True):
            row = rows.setdefault(int(item), np.zeros(6))
            row[column] = max(row[column], score)
    for item, row in rows.items():
        row[0] = embeddings[item].astype(np.float64) @ context.astype(np.float64)
        row[3], row[4] = popularity[item], popularity_recent[item]
        row[5] = float(item in session)
    table = np.array(list(rows.values())).reshape(-1, 6)
    for column in (1, 2):
        if len(table) and table[:, column].max() > 0:
            table[:, column] /= table[:, column].max()
    return list(rows), table


def top_k(items, scores, k):
    rows = [r for r in range(len(items)) if not np.isnan(scores[r])]
    return sorted(rows, key=lambda r: (-scores[r], items[r]))[: max(k, 0)]


def diversify(items, scores, embeddings, diversity, k):
    low, high = scores.min(initial=np.inf), scores.max(initial=-np.inf)
    relevance = (scores - low) / (high - low) if high > low else np.ones(len(items))
    chosen: list[int] = []
    while len(chosen) < min(k, len(items)):
        values = {}
        for r in range(len(items)):
            if r not in chosen:
                near = max((float(embeddings[items[r]] @ embeddings[items[c]]) for c in chosen), default=-1.0)
                values[r] = (1 - diversity) * relevance[r] - diversity * max(near, -1.0)
        chosen.append(max(values, key=lambda r: (values[r], -r)))
    return chosen
