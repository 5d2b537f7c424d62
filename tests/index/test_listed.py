"""Search in the neighbourhood of items, and the lists that it goes by."""

from __future__ import annotations

import numpy as np
import pytest

from recserv.index.exact import ExactIndex
from recserv.index.hnsw import Graph
from recserv.index.listed import NEAR_MAX, ListedIndex
from tests.index.test_contract import vectors

N, D, WIDTH = 800, 16, 12


class Spy(ExactIndex):
    """In place of the graph."""

    searches = 0

    def search(self, *arguments):
        self.searches += 1
        return super().search(*arguments)


@pytest.fixture(scope="module")
def lists():
    exact = ExactIndex(vectors())
    found = np.full((N, WIDTH), -1, np.int32)
    for row in np.flatnonzero(vectors().any(axis=1)):
        found[row] = exact.search(vectors()[row], WIDTH)[0]
    return found


@pytest.fixture
def graph():
    return Spy(vectors())


def near(*items):
    return np.array(items, np.int32)


def unit(query):
    return np.asarray(query / np.linalg.norm(query), np.float32)


def test_beside_one_item_its_list_is_the_answer(graph, lists):
    item_rows, similarities = ListedIndex(graph, vectors(), lists).search(vectors()[57], WIDTH, near(57))
    expected, cosines = ExactIndex(vectors()).search(vectors()[57], WIDTH)
    assert item_rows.tolist() == expected.tolist()
    np.testing.assert_allclose(similarities, cosines, atol=1e-5)
    assert graph.searches == 0


def test_between_items_most_of_the_nearest_are_in_their_lists(graph):
    # Of whole neighbourhoods, not of sixteen dimensions without any order.
    rng = np.random.default_rng(7)
    centres = rng.standard_normal((40, D))
    embeddings = np.array([unit(centres[row % 40] + 0.3 * rng.standard_normal(D)) for row in range(N)])
    exact = ExactIndex(embeddings)
    listed = ListedIndex(graph, embeddings, np.array([exact.search(row, 40)[0] for row in embeddings]))
    recalls = []
    for at in range(0, 200, 7):
        items = near(at, at + 40, at + 80)
        query = unit(embeddings[items].sum(axis=0))
        found, truth = listed.search(query, 10, items)[0], exact.search(query, 10)[0]
        recalls.append(len(set(found.tolist()) & set(truth.tolist())) / 10)
    assert np.mean(recalls) > 0.95
    assert graph.searches == 0


@pytest.mark.parametrize(
    ("k", "items"),
    [(5, ()), (WIDTH + 1, (57, 58)), (5, (0,))],
    ids=["near nothing", "longer than a list", "an item without a vector"],
)
def test_what_lists_do_not_hold_the_graph_finds(graph, lists, k, items):
    query = vectors()[57]
    item_rows, _ = ListedIndex(graph, vectors(), lists).search(query, k, near(*items))
    assert graph.searches == 1
    assert item_rows.tolist() == ExactIndex(vectors()).search(query, k)[0].tolist()


def test_only_the_newest_items_are_looked_at(graph, lists):
    items = near(*range(1, 10))
    item_rows, _ = ListedIndex(graph, vectors(), lists).search(vectors()[1], WIDTH, items)
    assert set(item_rows.tolist()) <= set(lists[items[-NEAR_MAX:]].ravel().tolist())


def test_a_model_without_lists_is_searched_in_its_graph(graph):
    index = ListedIndex(graph, vectors(), np.empty((N, 0), np.int32))
    assert index.search(vectors()[57], 1, near(57))[0].tolist() == [57]
    assert graph.searches == 1


def test_the_graph_lists_nearly_all_of_the_nearest(lists):
    found = Graph(vectors()).neighbours(WIDTH)
    assert (found[::10] == -1).all()
    there = np.flatnonzero(vectors().any(axis=1))
    assert (found[there, 0] == there).all()
    recalls = [len(set(found[row].tolist()) & set(lists[row].tolist())) / WIDTH for row in there]
    assert np.mean(recalls) > 0.9


def test_the_same_vectors_give_the_same_lists():
    assert Graph(vectors()).neighbours(WIDTH).tolist() == Graph(vectors()).neighbours(WIDTH).tolist()


@pytest.mark.parametrize("n", [0, 1, 5, 300])
def test_equal_vectors_and_few_of_them_are_listed_too(n):
    # Hundreds of equal ones make the graph find fewer than it is asked for.
    embeddings = np.zeros((n + 1, 4), np.float32)
    embeddings[:n, 0] = 1
    found = Graph(embeddings).neighbours(64)
    assert found.shape == (n + 1, 64)
    assert (found[n] == -1).all()
    for row in found[:n]:
        listed = row[row >= 0]
        assert len(listed) == len(set(listed.tolist())) > 0
        assert (row[len(listed) :] == -1).all()
        assert n >= 64 or len(listed) == n


def test_asking_for_zero_neighbours_gives_empty_lists():
    assert Graph(vectors()).neighbours(0).shape == (N, 0)
