"""Variants in training: which belong together, and that many of them leave room for other products."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from recserv.index.exact import ExactIndex
from recserv.index.hnsw import Graph, HnswIndex
from recserv.training.covisitation import GROUP_NEIGHBOURS_MAX, strongest
from recserv.training.item_space import group_codes
from recserv.training.popular import first_of_groups, top_by_category
from recserv.training.stand_ins import ALIKE_MAX, indexed_rows
from recserv.types import Item

NO_GROUPS = np.empty(0, np.int32)
SHIRTS, OTHERS, D = 1500, 400, 16


def unit(n: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, D)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def crowd(seed: int = 0) -> np.ndarray:
    """1,500 vectors that nothing but the last bits tells apart, in the midst of others."""
    rng = np.random.default_rng(seed)
    shirts = np.repeat(unit(1, seed + 1), SHIRTS, axis=0) * (1 + 1e-7 * rng.standard_normal((SHIRTS, 1)))
    rows = np.concatenate((shirts.astype(np.float32), unit(OTHERS, seed + 2)))
    return rows[rng.permutation(len(rows))]


def codes(*items: tuple[str, str]) -> list[int]:
    found: list[int] = group_codes([Item(item_id=item_id, group_id=group) for item_id, group in items]).tolist()
    return found


def test_items_of_one_group_have_one_code_and_a_group_of_one_is_none() -> None:
    assert codes(("a", "g"), ("b", ""), ("c", "g"), ("d", "alone"), ("e", "h"), ("f", "h")) == [0, -1, 0, -1, 1, 1]
    assert codes(("a", "alone"), ("b", "")) == []


def test_the_product_that_stands_beside_its_variants_belongs_to_them() -> None:
    assert codes(("shirt", ""), ("shirt-s", "shirt"), ("b", "")) == [0, 0, -1]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 4)), max_size=60), st.integers(1, 3))
def test_the_first_of_a_group_in_each_row_are_those_of_the_twin(entries: list[tuple[int, int]], most: int) -> None:
    entries = sorted(entries, key=lambda entry: entry[0])
    before: list[tuple[int, int]] = []
    kept = []
    for entry in entries:
        kept.append(entry[1] < 0 or before.count(entry) < most)
        before.append(entry)
    rows, groups = (np.array([entry[at] for entry in entries], np.int32) for at in (0, 1))
    assert first_of_groups(rows, groups, most).tolist() == kept


def test_a_list_of_neighbours_has_few_of_a_group_and_the_item_itself() -> None:
    weights = np.zeros((12, 12), np.float32)
    weights[0] = np.arange(12, 0, -1)  # item 0 goes with all, the variants 0..8 most
    groups = np.array([0] * 9 + [-1] * 3, np.int32)
    offsets, items, _ = strongest(sp.csr_array(weights), 6, groups)
    assert items[: offsets[1]].tolist() == [0, *range(1, 1 + GROUP_NEIGHBOURS_MAX), 9, 10]
    assert strongest(sp.csr_array(weights), 6)[1].tolist() == [0, 1, 2, 3, 4, 5]


def test_of_the_popular_items_of_a_category_one_is_of_a_group() -> None:
    counts, available = np.arange(6, 0, -1).astype(np.float32), np.array([0, 1, 1, 1, 1, 1], np.uint8)
    offsets, categories = np.arange(7), np.zeros(6, np.int32)
    groups = np.array([0, 0, 0, -1, 1, 1], np.int32)
    assert top_by_category(counts, available, offsets, categories, 1, 10, groups)[1].tolist() == [1, 3, 4]


def test_one_variant_stands_in_the_index_for_all_the_first_that_can_be_shown() -> None:
    vectors, available = unit(6), np.array([0, 1, 1, 1, 1, 0], np.uint8)
    vectors[4] = 0
    groups = np.array([7, 7, 7, -1, -1, 8], np.int32)
    assert indexed_rows(vectors, groups, available).tolist() == [1, 3, 5]
    assert indexed_rows(vectors, NO_GROUPS, available).tolist() == [0, 1, 2, 3, 5]
    assert indexed_rows(vectors[:0], NO_GROUPS, available[:0]).tolist() == []


def test_few_of_many_equal_vectors_stand_in_the_index() -> None:
    vectors = crowd()
    rows = indexed_rows(vectors, NO_GROUPS, np.ones(len(vectors), np.uint8))
    assert OTHERS + ALIKE_MAX <= len(rows) <= OTHERS + 4 * ALIKE_MAX  # a step may part what is nearly equal
    assert indexed_rows(unit(2000, 5), NO_GROUPS, np.ones(2000, np.uint8)).tolist() == list(range(2000))


@pytest.mark.parametrize("seed", [0, 10])
def test_other_products_find_each_other_in_a_crowd_of_equal_vectors(tmp_path, seed: int) -> None:
    vectors = crowd(seed)
    shirt = vectors @ unit(1, seed + 1)[0] > 0.9999
    others = np.flatnonzero(~shirt)
    truth = ExactIndex(np.where(shirt[:, None], 0, vectors).astype(np.float32))
    rows = indexed_rows(vectors, NO_GROUPS, np.ones(len(vectors), np.uint8))
    graph = Graph(vectors, rows=rows)
    graph.save(tmp_path / "index")
    index, lists = HnswIndex.load(tmp_path / "index", dimensions=D), graph.neighbours(64)
    recalls, listed = [], []
    for item in others[::4]:
        wanted = set(truth.search(vectors[item], 20)[0].tolist())
        recalls.append(len(wanted & set(index.search(vectors[item], 64)[0].tolist())) / 20)
        listed.append(len(wanted & set(lists[item].tolist())) / 20)
    assert np.mean(recalls) > 0.95
    assert np.mean(listed) > 0.95
    for one in np.flatnonzero(shirt)[::300].tolist():
        assert lists[one, 0] == one or one in rows
        assert len(set(lists[one].tolist()) & set(others.tolist())) >= 64 - 1 - 4 * ALIKE_MAX
