"""Words of the catalogue: what lets a search query join the context, and find the items that hold its words.

    text -> tokens -> known words -> sum of rarity x word vector -> unit vector in the items' space
                   -> keys of words -> lists of the items that hold them (`pipeline.word_search`)

The same `tokens` cuts the catalogue when a model is built and queries when it serves.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from recserv.types import Item

QUERY_TOKENS_MAX = 16

_TOKEN = re.compile(r"[^\W_]+")
_APOSTROPHES = re.compile(r"(?<=\w)['\u2019](?=\w)")
_PLURAL_LETTERS_MIN = 4
_ALIKE_MAX = 20_000
_ALIKE_LETTERS_MAX = 32
"""Words are the callers': what is kept of them is bounded in number and in length, 20,000 of some 250 bytes."""


def cut(text: str) -> list[str]:
    """Runs of letters and digits, case folded; an apostrophe inside a word does not part it."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return _TOKEN.findall(_APOSTROPHES.sub("", text.casefold()))


def alike(word: str) -> str:
    """What a word of `cut` has in common with its simple plural: "box" of "boxes", "cherry" of "cherries". It need not
    be a word itself; words that are not plurals may lose an s, and do so everywhere.
    """
    return _kept_alike(word) if len(word) <= _ALIKE_LETTERS_MAX else _alike(word)


def _alike(word: str) -> str:
    if len(word) < _PLURAL_LETTERS_MIN or not word.isalpha():
        return word
    if len(word) > _PLURAL_LETTERS_MIN:
        if word.endswith("ies"):
            return word[:-3] + "y"
        if word.endswith("ie"):
            return word[:-2] + "y"
        if word.endswith(("sses", "shes", "ches", "xes")) or (word.endswith("oes") and not word.endswith("shoes")):
            return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


_kept_alike = lru_cache(_ALIKE_MAX)(_alike)


def tokens(text: str) -> list[str]:
    """The words of a text as they are compared: without case, punctuation and simple plurals."""
    return [alike(word) for word in cut(text)]


def item_words(item: Item) -> set[str]:
    """The `tokens` by which a search finds an item."""
    return set(tokens(" ".join((item.title, item.brand, *item.tags, *item.categories))))


def word_keys(words: Iterable[str]) -> npt.NDArray[np.int64]:
    """What stands for words in a model: 64 bits of a digest, so that two different ones are as good as never equal, and
    a million of them are an array instead of a million objects.
    """
    digests = (hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest() for word in words)
    return np.frombuffer(b"".join(digests), "<i8")


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
