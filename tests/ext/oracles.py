"""NumPy twins of the kernels: slow, plain, and what the kernels are tested against."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from recserv.ranking_features import FEATURE_NAMES, FEATURES


def weigh(kinds, ages_s, type_weights, half_life_s, places):
    after = np.minimum(np.arange(len(kinds) - 1, -1, -1), len(places) - 1)
    return type_weights[kinds] * 2.0 ** (-ages_s.astype(np.float64) / half_life_s) * places[after]


def aggregate(items, weights, importance, embeddings, beside=None):
    amounts = weights.astype(np.float64) * importance[items]
    total = (embeddings[items].astype(np.float64) * amounts[:, None]).sum(axis=0)
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


def features(model, lists, context, items, session, events):
    """`model`: as CandidateTable takes it. lists: (score feature or "", rank feature or "", items, scores). Rows in the
    order in which the items first appear.
    """
    embeddings, popularity, recent, importance, categories, offsets, neighbours, strengths = model
    rows: dict[int, dict[str, float]] = {}
    for score_name, rank_name, listed, scores in lists:
        for place, (item, score) in enumerate(zip(listed.tolist(), scores.tolist(), strict=True)):
            row = rows.setdefault(item, defaultdict(float))
            if score_name:
                row[score_name] = score
            if rank_name:
                row[rank_name] = 1 / (1 + place)
    seen = {item: values for item, values in zip(items.tolist(), session.tolist(), strict=True) if values[0] > 0}
    total = sum(values[0] for values in seen.values())
    last = next((item for item in reversed(items.tolist()) if item in seen), None)
    known = {other: values[0] for other, values in seen.items() if categories[other] >= 0}
    for item, row in rows.items():
        vector = embeddings[item].astype(np.float64)
        row["context_cosine"] = vector @ context.astype(np.float64)
        row["popularity"], row["popularity_recent"] = popularity[item], recent[item]
        row["popularity_trend"] = recent[item] - popularity[item]
        row["importance"] = np.log(importance[item])
        row["session_length"], row["session_unique"] = np.log1p(events), len(seen) / total if total else 0.0
        if last is not None:
            row["last_item_cosine"] = vector @ embeddings[last].astype(np.float64)
            near = slice(offsets[last], offsets[last + 1])
            linked = dict(zip(neighbours[near].tolist(), strengths[near].tolist(), strict=True))
            row["covisitation_last_item"] = linked.get(item, 0.0) / max(linked.values(), default=1.0)
        if item in seen:
            count, after, weight = seen[item]
            row |= {"in_session": 1.0, "session_count": np.log(count), "session_recency": 1 / (1 + after)}
            row |= {"session_last": float(item == last), "session_weight": weight}
            row["in_session_unique"] = row["session_unique"]
        if known and categories[item] >= 0:
            same = sum(count for other, count in known.items() if categories[other] == categories[item])
            row["category_share"] = same / sum(known.values())
            row["category_last_item"] = float(last is not None and categories[last] == categories[item])
    for name, log in ((feature.name, feature.log) for feature in FEATURES if feature.log):
        largest = max((row[name] for row in rows.values()), default=0.0)
        for row in rows.values():
            row[log] = np.log1p(row[name])
            row[name] = row[name] / largest if largest > 0 else 0.0
    table = np.array([[row[name] for name in FEATURE_NAMES] for row in rows.values()])
    return list(rows), table.reshape(-1, len(FEATURE_NAMES))


def perceptron(features, mean, scale, skip, hidden, bias, out, limit=6.0):
    x = np.clip((features.astype(np.float64) - mean) / scale, -limit, limit)
    return x @ skip + np.maximum(x @ hidden + bias, 0) @ out


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


def first_of_groups(items, groups, k, allowed=None, taken=()):
    """Places of the first items of each group; an item of group -1 is on its own."""
    met = {groups[item] for item in taken if groups[item] >= 0}
    rows = []
    for row, item in enumerate(items):
        if (allowed is None or allowed[item]) and groups[item] not in met and len(rows) < k:
            rows.append(row)
            met |= {groups[item]} - {-1}
    return rows


def with_siblings(items, groups):
    of = set(groups[items].tolist()) - {-1}
    return set(items.tolist()) | {item for item, group in enumerate(groups.tolist()) if group in of}
