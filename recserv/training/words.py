"""The words of the catalogue: which items hold them, and where in the items' space those lie.

items -> words of title, brand, tags, categories -> (word, item) pairs
      -> vectors   per word the mean of the item vectors, popular items counting more -> unit vectors
      -> lists     per word the items that hold it
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recserv.model.words import item_words, word_keys
from recserv.training.linear_algebra import Matrix, unit_rows
from recserv.types import Item

WORDS_MAX = 50_000
"""Of the words that have vectors; the rarer ones are found by the lists alone."""


class Holders(NamedTuple):
    """Which items hold which words: `words`, the most frequent first; of every pair its word's place among them and its
    item, int64 [pairs], items ascending within a word; `items`: how many there are.
    """

    words: list[str]
    word: npt.NDArray[np.int64]
    item: npt.NDArray[np.int64]
    items: int


def holders(items: list[Item]) -> Holders:
    words_of = [item_words(item) for item in items]
    frequency = Counter(word for words in words_of for word in words)
    ordered = sorted(frequency, key=lambda word: (-frequency[word], word))
    place = {word: row for row, word in enumerate(ordered)}
    rows = np.fromiter((place[word] for words in words_of for word in words), np.int64, frequency.total())
    owners = np.repeat(np.arange(len(items)), np.array([len(words) for words in words_of], np.int64))
    order = np.lexsort((owners, rows))
    return Holders(ordered, rows[order], owners[order], len(items))


def word_vectors(
    held: Holders, vectors: Matrix, popularity: npt.NDArray[np.float32]
) -> tuple[list[str], Matrix, npt.NDArray[np.float32]]:
    """The first WORDS_MAX words; their vectors float32 [w, d]; their rarity (IDF) float32 [w].

    vectors: float32 [n, d], popularity: float32 [n], both by item.
    """
    chosen = held.words[:WORDS_MAX]
    kept = held.word < len(chosen)
    rows, columns = held.word[kept], held.item[kept]
    weights = (1.0 + np.log1p(popularity[columns])).astype(np.float32)
    membership = sp.coo_array((weights, (rows, columns)), shape=(len(chosen), held.items)).tocsr()
    counts = np.bincount(rows, minlength=len(chosen)).astype(np.float32)
    rarity = np.log((1 + held.items) / (1 + counts)).astype(np.float32)
    return chosen, unit_rows(np.asarray(membership @ vectors, np.float32)), np.maximum(rarity, np.float32(0.01))


def word_lists(held: Holders) -> dict[str, npt.NDArray[np.int64] | npt.NDArray[np.int32]]:
    """The inverted index, as the arrays of the model format: words by their key, ascending."""
    keys = word_keys(held.words)
    order = np.argsort(keys)
    rank = np.empty(len(keys), np.int64)
    rank[order] = np.arange(len(keys))
    pairs = np.lexsort((held.item, rank[held.word]))
    counts = np.bincount(held.word, minlength=len(keys))[order]
    return {
        "search_words": keys[order],
        "search_word_offsets": np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        "search_word_items": held.item[pairs].astype(np.int32),
    }
