"""What must hold between the arrays of a model, checked once at load so that kernels need no bounds checks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from recserv.errors import ModelError
from recserv.model.layout import (
    ARRAYS,
    CATEGORY_POPULAR_MAX,
    NEAREST_MAX,
    POPULAR_ITEMS_MAX,
    POSITIONS_MAX,
    Array,
    file_name,
)

_UNIT_TOLERANCE = 1e-3
_ORIGINS = 3


def check_arrays(arrays: Mapping[str, Array], items: int, sessions: int, categories: int) -> None:
    """Raises ModelError naming the first array that does not fit. All arrays of the layout must be there."""
    known = {"n": items, "s": sessions, "c": categories}
    there = {name: spec for name, spec in ARRAYS.items() if len(arrays[name]) or not spec.optional}
    for name, spec in there.items():
        if spec.of:
            check_offsets(name, arrays[name], len(arrays[spec.of]))
        if spec.points:
            check_in_range(name, arrays[name], known[spec.points])
    for name in ("popular_items", "trending_items"):
        check_popular(name, arrays[name], items)
    if np.diff(arrays["category_popular_offsets"]).max(initial=0) > CATEGORY_POPULAR_MAX:
        raise ModelError(
            file_name("category_popular_offsets"), f"a category has more than {CATEGORY_POPULAR_MAX} items"
        )
    for name, spec in there.items():
        if spec.not_negative:
            _check_not_negative(name, arrays[name])
    for name in ("item_importance", "position_weights"):
        if not np.isfinite(arrays[name]).all() or arrays[name].min(initial=1.0) <= 0:
            raise ModelError(file_name(name), "has a weight that is not positive and finite")
    if not 1 <= len(arrays["position_weights"]) <= POSITIONS_MAX:
        raise ModelError(file_name("position_weights"), f"must have 1 to {POSITIONS_MAX} weights")
    if arrays["available"].max(initial=0) > 1:
        raise ModelError(file_name("available"), "has a value other than 0 and 1")
    check_groups(arrays["item_groups"], items)
    _check_nearest(arrays["nearest_items"], items)
    _check_covisitation(arrays)
    _check_embeddings(arrays["embeddings"], arrays["embedding_origin"])


def check_groups(groups: Array, items: int) -> None:
    """A code or -1 for each item, or none at all; raises ModelError."""
    if len(groups) not in (0, items):
        raise ModelError(file_name("item_groups"), f"has {len(groups)} codes for {items} items")
    if groups.min(initial=-1) < -1 or groups.max(initial=-1) >= items:
        raise ModelError(file_name("item_groups"), f"points outside of -1..{items - 1}")


def check_words(arrays: Mapping[str, Array], words: int) -> None:
    """As many vectors and weights as words, all finite; raises ModelError."""
    vectors, rarity = arrays["word_vectors"], arrays["word_rarity"]
    for name in ("word_vectors", "word_rarity"):
        if len(arrays[name]) != words:
            raise ModelError(file_name(name), f"has {len(arrays[name])} rows for {words} words")
    if not np.isfinite(rarity).all() or rarity.min(initial=1.0) <= 0:
        raise ModelError(file_name("word_rarity"), "has a weight that is not positive and finite")
    lengths = np.linalg.norm(vectors, axis=1)
    if not (np.isfinite(lengths) & ((lengths == 0) | (abs(lengths - 1) < _UNIT_TOLERANCE))).all():
        raise ModelError(file_name("word_vectors"), "has a row that is neither of unit length nor zero")


def check_word_lists(arrays: Mapping[str, Array], items: int) -> None:
    """Keys and the items of each word ascend; raises ModelError."""
    keys, offsets, held = arrays["search_words"], arrays["search_word_offsets"], arrays["search_word_items"]
    if len(keys) > 1 and (keys[1:] <= keys[:-1]).any():
        raise ModelError(file_name("search_words"), "does not ascend")
    if len(offsets) != len(keys) + 1:
        raise ModelError(file_name("search_word_offsets"), f"has {len(offsets)} offsets for {len(keys)} words")
    check_offsets("search_word_offsets", offsets, len(held))
    check_in_range("search_word_items", held, items)
    falls = held[1:] <= held[:-1]
    starts = offsets[1:-1]
    falls[starts[(starts > 0) & (starts < len(held))] - 1] = False
    if falls.any():
        raise ModelError(file_name("search_word_items"), "does not ascend within a word")


def check_offsets(name: str, offsets: Array, length: int) -> None:
    """Offsets begin at 0, never fall and end at `length`."""
    if offsets[0] != 0 or offsets[-1] != length:
        raise ModelError(file_name(name), f"must run from 0 to {length}; runs from {offsets[0]} to {offsets[-1]}")
    if len(offsets) > 1 and np.diff(offsets).min() < 0:
        raise ModelError(file_name(name), "falls somewhere; offsets must not")


def check_in_range(name: str, values: Array, bound: int) -> None:
    if len(values) and (values.min() < 0 or values.max() >= bound):
        raise ModelError(file_name(name), f"points outside of 0..{bound - 1}")


def check_popular(name: str, values: Array, items: int) -> None:
    check_in_range(name, values, items)
    if len(values) > POPULAR_ITEMS_MAX:
        raise ModelError(file_name(name), f"has {len(values)} items; at most {POPULAR_ITEMS_MAX} are expected")
    if len(np.unique(values)) != len(values):
        raise ModelError(file_name(name), "names an item twice")


def _check_not_negative(name: str, values: Array) -> None:
    if not np.isfinite(values).all() or values.min(initial=0.0) < 0:
        raise ModelError(file_name(name), "has a value that is negative or not finite")


def _check_nearest(lists: Array, items: int) -> None:
    file = file_name("nearest_items")
    if lists.shape[1] > NEAREST_MAX:
        raise ModelError(file, f"lists {lists.shape[1]} of each item; at most {NEAREST_MAX} are expected")
    if lists.min(initial=-1) < -1 or lists.max(initial=-1) >= items:
        raise ModelError(file, f"points outside of -1..{items - 1}")


def _check_covisitation(arrays: Mapping[str, Array]) -> None:
    weights, offsets = arrays["covisitation_weights"], arrays["covisitation_offsets"]
    file = file_name("covisitation_weights")
    if len(weights) != len(arrays["covisitation_items"]):
        raise ModelError(file, f"has {len(weights)} weights for {len(arrays['covisitation_items'])} neighbours")
    if len(weights) == 0:
        return
    if not np.isfinite(weights).all() or weights.min() <= 0:
        raise ModelError(file, "has a weight that is not positive and finite")
    rises = weights[1:] > weights[:-1]
    starts = offsets[1:-1]
    rises[starts[(starts > 0) & (starts < len(weights))] - 1] = False
    if rises.any():
        raise ModelError(file, "is not sorted within an item")


def _check_embeddings(embeddings: Array, origin: Array) -> None:
    file = file_name("embeddings")
    norms = np.einsum("nd,nd->n", embeddings, embeddings)
    if not np.isfinite(norms).all():
        raise ModelError(file, "has a value that is not finite")
    if origin.max(initial=0) >= _ORIGINS:
        raise ModelError(file_name("embedding_origin"), f"has a value outside of 0..{_ORIGINS - 1}")
    has_vector = origin > 0
    if norms[~has_vector].any():
        raise ModelError(file, "an item of origin 0 has a vector")
    if (np.abs(norms[has_vector] - 1) > _UNIT_TOLERANCE).any():
        raise ModelError(file, "a row is not of unit length")
