from __future__ import annotations

import numpy as np
import pytest

from recserv.model.words import WordTable, tokens
from recserv.training.words import word_vectors
from recserv.types import Item

ITEMS = [
    Item(item_id="a", title="Red lamp", categories=("Lighting",)),
    Item(item_id="b", title="Blue lamp", brand="ACME"),
    Item(item_id="c", title="Red chair"),
]
VECTORS = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)


def table(popularity=(0, 0, 0)) -> WordTable:
    return WordTable(*word_vectors(ITEMS, VECTORS, np.array(popularity, np.float32)))


def test_a_word_lies_among_the_items_that_hold_it():
    words = table()
    np.testing.assert_allclose(words.vector("lighting"), [1, 0], atol=1e-6)
    expected = VECTORS[:2].sum(axis=0)
    np.testing.assert_allclose(words.vector("LAMP"), expected / np.linalg.norm(expected), atol=1e-6)


def test_popular_items_pull_a_word_towards_them():
    assert table((1000, 0, 0)).vector("lamp")[0] > table().vector("lamp")[0]


def test_the_rarer_word_of_a_query_counts_more():
    found = table().vector("red acme")
    assert found @ VECTORS[1] > found @ (VECTORS[0] + VECTORS[2]) / np.linalg.norm(VECTORS[0] + VECTORS[2])


def test_unknown_words_have_no_meaning():
    assert table().vector("sofa!") is None
    assert table().vector("") is None


def test_a_catalogue_without_words_gives_an_empty_table():
    words, vectors, rarity = word_vectors([Item(item_id="a")], VECTORS[:1], np.zeros(1, np.float32))
    assert (words, vectors.shape, rarity.shape) == ([], (0, 2), (0,))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ärmel-Weste, XL_2", ["ärmel", "weste", "xl", "2"]),
        ("STRASSE", ["strasse"]),
        ("Straße", ["strasse"]),
        (" ", []),
    ],
)
def test_tokens_are_folded_runs_of_letters_and_digits(text, expected):
    assert tokens(text) == expected
