"""Vectors from what the catalogue says, for items that behaviour says little or nothing about.

    text, brand, categories, tags, price -> hashed tokens -> TF-IDF -> truncated SVD -> effect on the behaviour vectors
    -> vectors that follow content where behaviour says little

A new product lies where products that read like it lie, but not as if it sold like them (`content_effect`).
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from recserv.training.catalog import Catalog
from recserv.training.content_effect import Effect, content_effect
from recserv.training.linear_algebra import Matrix, truncated_svd, unit_rows

HASH_BITS = 17
REDUCED_DIMENSIONS = 128

_DESCRIPTION_CHARACTERS = 1000
_BATCH_ITEMS = 1 << 15


def content_features(catalog: Catalog) -> Any:
    """CSR float32 [catalogue rows, 2^HASH_BITS]: TF-IDF of hashed tokens, rows of unit length."""
    pieces = [
        ("w", _words(catalog.text["title"])),
        ("w", _words(pc.utf8_slice_codeunits(catalog.text["description"], 0, _DESCRIPTION_CHARACTERS))),
        ("b", _whole(catalog.text["brand"])),
        ("w", _listed_words(catalog.lists["tags"])),
        ("c", _listed(catalog.lists["categories"])),
        ("w", _listed_words(catalog.lists["categories"])),
        ("p", _price_buckets(catalog)),
    ]
    rows = np.concatenate([piece_rows for _, (piece_rows, _) in pieces])
    columns = np.concatenate([_hashed(prefix, tokens) for prefix, (_, tokens) in pieces])
    shape = (len(catalog), 1 << HASH_BITS)
    counts = sp.coo_array((np.ones(len(rows), np.float32), (rows, columns)), shape=shape).tocsr()
    counts.sum_duplicates()
    frequency = np.bincount(counts.indices, minlength=shape[1])
    idf = np.log((1 + shape[0]) / (1 + frequency)).astype(np.float32)
    counts.data = (1 + np.log(counts.data)) * idf[counts.indices]
    norms = np.sqrt(np.asarray(counts.multiply(counts).sum(axis=1)).ravel())
    counts.data /= np.repeat(np.maximum(norms, 1e-6), np.diff(counts.indptr)).astype(np.float32)
    return counts


def effect_of_content(
    catalog: Catalog, rows: npt.NDArray[np.int64], vectors: Matrix, support: Matrix, *, seed: int
) -> Effect:
    """For every item what its content says of its place in the space of `vectors`.

    `rows` int64 [n]: the item's row of the catalogue, -1 if it has none. `vectors` float32 [n, d] from behaviour,
    `support` float32 [n] the sessions behind each of them.
    """
    reduced = _reduced(content_features(catalog), seed)
    known = np.flatnonzero(rows >= 0)
    features = np.zeros((len(rows), reduced.shape[1]), np.float32)
    features[known] = reduced[rows[known]]
    return content_effect(features, np.asarray(features.any(axis=1)), vectors, support)


def blend(behaviour: Matrix, content: Effect | None, support: Matrix) -> tuple[Matrix, npt.NDArray[np.uint8]]:
    """Unit vectors float32 [n, d] and their origin uint8 [n]: 0 none, 1 behaviour (more or less of it), 2 content
    alone. The more sessions an item has, the more its behaviour counts.
    """
    has_behaviour = behaviour.any(axis=1)
    vectors = unit_rows(behaviour)
    if content is not None:
        moved = unit_rows(behaviour + content.weights(support)[:, None] * content.vectors)
        told = content.vectors.any(axis=1) & moved.any(axis=1)
        vectors[told] = moved[told]
        vectors[~has_behaviour] = unit_rows(content.vectors[~has_behaviour])
    origin = np.where(has_behaviour, 1, 2).astype(np.uint8)
    origin[~vectors.any(axis=1)] = 0
    return vectors, origin


def _reduced(features: Any, seed: int) -> Matrix:
    used = np.unique(features.indices)
    if len(used) == 0:
        return np.zeros((features.shape[0], 1), np.float32)
    vectors, strengths = truncated_svd(features[:, used], REDUCED_DIMENSIONS, seed=seed)
    return unit_rows(vectors * strengths)


Tokens = tuple[npt.NDArray[np.int64], Any]
"""Row of every token, and the tokens."""


def _words(text: Any) -> Tokens:
    plain = pc.utf8_trim_whitespace(pc.replace_substring_regex(pc.utf8_lower(text), r"[^\p{L}\p{N}]+", " "))
    return _listed(pc.split_pattern(plain, " "))


def _whole(text: Any) -> Tokens:
    rows = np.flatnonzero(pc.not_equal(text, "").to_numpy(zero_copy_only=False))
    return rows, pc.utf8_lower(text.take(pa.array(rows)))


def _listed(lists: Any) -> Tokens:
    rows, tokens = pc.list_parent_indices(lists).to_numpy(), lists.flatten()
    keep = pc.not_equal(tokens, "")
    return rows[keep.to_numpy(zero_copy_only=False)], tokens.filter(keep)


def _listed_words(lists: Any) -> Tokens:
    rows, names = _listed(lists)
    places, words = _words(names)
    return rows[places], words


def _price_buckets(catalog: Catalog) -> Tokens:
    """Half-octaves: prices within about 40 % of each other share one."""
    rows = np.flatnonzero(catalog.price > 0)
    buckets = np.floor(2 * np.log2(catalog.price[rows])).astype(np.int64)
    return rows, pa.array(buckets).cast(pa.string())


def _hashed(prefix: str, tokens: Any) -> npt.NDArray[np.int64]:
    """Columns by CRC-32: the same token has the same column in every build."""
    encoded = tokens.dictionary_encode()
    names = encoded.dictionary.to_pylist()
    codes = np.array([zlib.crc32(f"{prefix}:{name}".encode()) for name in names], np.int64) & ((1 << HASH_BITS) - 1)
    columns: npt.NDArray[np.int64] = codes[encoded.indices.to_numpy(zero_copy_only=False)]
    return columns
