"""Word vectors: where in the items' space the items lie whose title, brand, tags or categories hold a word.

items x their words -> per word the mean of the item vectors, popular items counting more -> unit vectors
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recserv.model.words import tokens
from recserv.training.linear_algebra import Matrix, unit_rows
from recserv.types import Item

WORDS_MAX = 50_000


def word_vectors(
    items: list[Item], vectors: Matrix, popularity: npt.NDArray[np.float32]
) -> tuple[list[str], Matrix, npt.NDArray[np.float32]]:
    """Words, most frequent first, at most WORDS_MAX; their vectors float32 [w, d]; their rarity (IDF) float32 [w].

    vectors: float32 [n, d], popularity: float32 [n], both by item.
    """
    words_of = [set(tokens(" ".join((item.title, item.brand, *item.tags, *item.categories)))) for item in items]
    frequency = Counter(word for words in words_of for word in words)
    chosen = sorted(frequency, key=lambda word: (-frequency[word], word))[:WORDS_MAX]
    row_of = {word: row for row, word in enumerate(chosen)}
    pairs = [(row_of[word], at) for at, words in enumerate(words_of) for word in sorted(words) if word in row_of]
    rows, columns = np.array(pairs, np.int64).reshape(-1, 2).T
    weights = (1.0 + np.log1p(popularity[columns])).astype(np.float32)
    membership = sp.coo_array((weights, (rows, columns)), shape=(len(chosen), len(items))).tocsr()
    counts = np.array([frequency[word] for word in chosen], np.float32)
    rarity = np.log((1 + len(items)) / (1 + counts)).astype(np.float32)
    return chosen, unit_rows(np.asarray(membership @ vectors, np.float32)), np.maximum(rarity, np.float32(0.01))
