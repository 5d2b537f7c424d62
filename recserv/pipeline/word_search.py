"""Items that contain the words of a search query: the model's inverted index, searched by its kernel.

    text -> tokens -> keys -> rows of the index, rarest first, with their IDF -> the best items

Pure computation over resident memory, with a bounded number of items however common the words are (`_matches`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from recserv._matches import WordMatches
from recserv.model.words import QUERY_TOKENS_MAX, tokens, word_keys

if TYPE_CHECKING:
    from recserv.model.snapshot import ModelSnapshot

ItemRows = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

MATCHES_MAX = 200
"""Enough for a page of a hundred with diversity, or with as many more that rank lower by other signals."""
RARITY_MIN = 0.01


class WordQuery(NamedTuple):
    """words: rows of the index, rarest first; rarity: their IDF."""

    words: tuple[int, ...]
    rarity: tuple[float, ...]


class WordSearch:
    def __init__(self, snapshot: ModelSnapshot):
        self._keys = snapshot.search_words
        self._offsets = snapshot.search_word_offsets if len(self._keys) else np.zeros(1, np.int64)
        self._matches = WordMatches(
            self._offsets, snapshot.search_word_items, snapshot.item_count, snapshot.item_groups
        )

    def query(self, text: str) -> WordQuery | None:
        """The words of a text that the index knows; None if it knows none."""
        rows = self._rows(dict.fromkeys(tokens(text)[:QUERY_TOKENS_MAX]))
        rows = rows[rows >= 0]
        if not len(rows):
            return None
        counts = self._offsets[rows + 1] - self._offsets[rows]
        order = np.lexsort((rows, counts))
        rarity = np.maximum(np.log((1 + self._matches.size) / (1 + counts[order])), RARITY_MIN)
        return WordQuery(tuple(rows[order].tolist()), tuple(rarity.tolist()))

    def holding(self, words: Iterable[str], wanted: ItemRows) -> npt.NDArray[np.uint8]:
        """Which of the wanted items contain which words, as `tokens` gives them: uint8 [wanted, words]."""
        return self._matches.holding(self._rows(words).astype(np.int32), wanted)

    def _rows(self, words: Iterable[str]) -> npt.NDArray[np.int64]:
        """Rows of distinct words in the index, int64; -1 for words that no item contains."""
        keys = word_keys(words)
        if not len(self._keys):
            return np.full(len(keys), -1, np.int64)
        rows = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[rows] == keys, rows, -1)

    def top(self, query: WordQuery, allowed: npt.NDArray[np.uint8]) -> tuple[ItemRows, Floats]:
        """At most MATCHES_MAX allowed items (uint8 [n]): first those that contain every word, then by the rarity of the
        words they contain; ties by item row, so the most popular first. Of the variants of a product, the best.
        """
        return self._matches.top(*_arrays(query), allowed, MATCHES_MAX)

    def among(self, query: WordQuery, wanted: ItemRows) -> tuple[ItemRows, Floats]:
        """The wanted items (int32) that contain any of the words, in the order of `top`."""
        scores = self._matches.score(*_arrays(query), wanted)
        order = np.lexsort((wanted, -scores))
        order = order[scores[order] > 0]
        return wanted[order], scores[order]


def _arrays(query: WordQuery) -> tuple[npt.NDArray[np.int32], Floats]:
    return np.array(query.words, np.int32), np.array(query.rarity, np.float32)
