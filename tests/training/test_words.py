from __future__ import annotations

import numpy as np
import pytest

from recserv.model import words as model_words
from recserv.model.words import WordTable, alike, item_words, tokens, word_keys
from recserv.training.words import holders, word_lists, word_vectors
from recserv.types import Item

ITEMS = [
    Item(item_id="a", title="Red lamp", categories=("Lighting",)),
    Item(item_id="b", title="Blue lamp", brand="ACME"),
    Item(item_id="c", title="Red chair"),
]
VECTORS = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)


def table(popularity=(0, 0, 0)) -> WordTable:
    return WordTable(*word_vectors(holders(ITEMS), VECTORS, np.array(popularity, np.float32)))


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


def test_a_query_of_unknown_words_has_no_vector():
    assert table().vector("sofa!") is None
    assert table().vector("") is None


def test_a_catalogue_without_words_gives_an_empty_table():
    words, vectors, rarity = word_vectors(holders([Item(item_id="a")]), VECTORS[:1], np.zeros(1, np.float32))
    assert (words, vectors.shape, rarity.shape) == ([], (0, 2), (0,))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ärmel-Weste, XL_2", ["ärmel", "weste", "xl", "2"]),
        ("STRASSE", ["strasse"]),
        ("Straße", ["strasse"]),
        (" ", []),
        ("Women\u2019s T-shirts, women's BOOTS", ["women", "t", "shirt", "women", "boot"]),
        ("A\u0308rmel \uff38\uff2c", ["ärmel", "xl"]),
    ],
)
def test_tokens_are_folded_runs_of_letters_and_digits(text, expected):
    assert tokens(text) == expected


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("light", "Lights"),
        ("box", "boxes"),
        ("cherry", "cherries"),
        ("cookie", "cookies"),
        ("glass", "GLASSES"),
        ("dish", "dishes"),
        ("watch", "watches"),
        ("shoe", "shoes"),
        ("tomato", "tomatoes"),
        ("pie", "pies"),
        ("candle", "candles"),
    ],
)
def test_a_word_and_its_simple_plural_are_one(one, many):
    assert tokens(one) == tokens(many)


@pytest.mark.parametrize(("one", "other"), [("cap", "cape"), ("pin", "pine"), ("bus", "bu"), ("xs", "x"), ("9s", "9")])
def test_a_final_e_and_the_s_of_a_short_word_are_kept(one, other):
    assert tokens(one) != tokens(other)


def test_the_lists_of_words_name_every_item_that_holds_one_and_no_other():
    lists = word_lists(holders(ITEMS))
    keys, offsets, held = (lists[name] for name in ("search_words", "search_word_offsets", "search_word_items"))
    words = sorted(set().union(*map(item_words, ITEMS)))
    assert keys.tolist() == sorted(word_keys(words).tolist())
    for word in words:
        row = keys.tolist().index(word_keys([word])[0])
        expected = [at for at, item in enumerate(ITEMS) if word in item_words(item)]
        assert held[offsets[row] : offsets[row + 1]].tolist() == expected


def test_without_words_the_lists_are_empty():
    empty = word_lists(holders([]))
    assert [empty[name].tolist() for name in empty] == [[], [0], []]


def test_words_that_are_kept_are_bounded_in_length_and_number() -> None:
    """A caller may send words of a thousand letters, another one each time."""
    before = model_words._kept_alike.cache_info().currsize
    assert alike("x" * 1000 + "s") == "x" * 1000
    assert model_words._kept_alike.cache_info().currsize == before
    assert alike("abcdefgs") == "abcdefg"
    assert model_words._kept_alike.cache_info().maxsize == 20_000
