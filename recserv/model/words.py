"""Words of the catalogue as vectors in the items' space: what lets a search query join the context.

    text -> tokens -> known words -> sum of rarity x word vector -> unit vector

The same `tokens` cuts titles when a model is built and queries when it serves.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

QUERY_TOKENS_MAX = 16

_TOKEN = re.compile(r"[^\W_]+")


def tokens(text: str) -> list[str]:
    """Runs of letters and digits, case folded."""
    return _TOKEN.findall(text.casefold())


class WordTable:
    """words [w]; vectors: float32 [w, d], unit length or zero; rarity: float32 [w], larger for words of fewer items."""

    def __init__(self, words: list[str], vectors: npt.NDArray[np.float32], rarity: npt.NDArray[np.float32]):
        self.words = words
        self._row = {word: row for row, word in enumerate(words)}
        self._vectors = vectors
        self._rarity = rarity

    def vector(self, text: str) -> npt.NDArray[np.float32] | None:
        """float32 [d] of unit length; None if the catalogue knows none of the words."""
        found = (self._row.get(token) for token in tokens(text)[:QUERY_TOKENS_MAX])
        rows = [row for row in found if row is not None]
        if not rows:
            return None
        total = self._rarity[rows] @ self._vectors[rows]
        norm = float(np.linalg.norm(total))
        return np.asarray(total / norm, np.float32) if norm > 0 else None
