"""One contract, every index."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recserv.errors import IndexUnavailable
from recserv.index.exact import ExactIndex
from recserv.index.hnsw import Graph, HnswIndex
from recserv.index.listed import ListedIndex

N, D = 800, 16


def vectors(n=N, d=D, seed=0):
    rows = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[::10] = 0
    return rows


def exact(embeddings, directory):
    return ExactIndex(embeddings)


def hnsw(embeddings, directory):
    Graph(embeddings).save(directory / "index.hnsw")
    return HnswIndex.load(directory / "index.hnsw", dimensions=embeddings.shape[1])


def listed(embeddings, directory):
    graph = Graph(embeddings)
    graph.save(directory / "index.hnsw")
    return ListedIndex.load(directory / "index.hnsw", embeddings, graph.neighbours(20))


@pytest.fixture(params=[exact, hnsw, listed], ids=["exact", "hnsw", "listed"], scope="module")
def make(request, tmp_path_factory):
    return lambda embeddings: request.param(embeddings, tmp_path_factory.mktemp("index"))


@pytest.fixture(scope="module")
def index(make):
    return make(vectors())


def test_it_knows_its_size_and_dimensions_and_leaves_zero_rows_out(index):
    assert (index.size, index.dimensions) == (N - N // 10, D)
    assert index.bounded != isinstance(index, ExactIndex)
    item_rows, _ = index.search(vectors()[1], N)
    assert not set(item_rows.tolist()) & set(range(0, N, 10))


def test_the_nearest_of_an_item_is_the_item(index):
    for at in (1, 57, 799):
        item_rows, similarities = index.search(vectors()[at], 1)
        assert item_rows.tolist() == [at]
        assert similarities[0] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("k", [-1, 0])
def test_k_of_zero_or_less_gives_no_results(index, k):
    item_rows, similarities = index.search(vectors()[1], k)
    assert len(item_rows) == len(similarities) == 0


def test_k_beyond_the_size_gives_every_vector_once(index):
    item_rows, _ = index.search(vectors()[1], 10 * N)
    assert len(set(item_rows.tolist())) == len(item_rows) == index.size


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 50), items=st.integers(0, 5))
def test_similarities_are_cosines_and_fall(index, seed, k, items):
    rng = np.random.default_rng(seed)
    near = rng.integers(0, N, items).astype(np.int32)
    query = (vectors()[near].sum(axis=0) + 0.1 * rng.standard_normal(D)).astype(np.float32)
    query /= np.linalg.norm(query)
    item_rows, similarities = index.search(query, k, near)
    assert item_rows.dtype == np.int32
    assert similarities.dtype == np.float32
    assert len(item_rows) == k
    np.testing.assert_allclose(similarities, vectors()[item_rows] @ query, atol=1e-5)
    assert (np.diff(similarities) <= 0).all()


def test_equal_vectors_come_in_order_of_item_row(make):
    embeddings = np.zeros((6, 4), np.float32)
    embeddings[:, 0] = 1
    item_rows, _ = make(embeddings).search(embeddings[0], 6)
    assert item_rows.tolist() == [0, 1, 2, 3, 4, 5]


def test_an_index_without_vectors_finds_nothing(make):
    index = make(np.zeros((3, 4), np.float32))
    assert index.size == 0
    assert len(index.search(np.array([1, 0, 0, 0], np.float32), 5)[0]) == 0


def test_vectors_that_are_not_finite_are_refused(make):
    embeddings = vectors()
    embeddings[3, 3] = np.nan
    with pytest.raises(IndexUnavailable):
        make(embeddings)


def test_hnsw_finds_nearly_all_that_exact_finds(tmp_path):
    embeddings = vectors(5000, 64, seed=3)
    Graph(embeddings).save(tmp_path / "index.hnsw")
    found = HnswIndex.load(tmp_path / "index.hnsw", dimensions=64, ef=80)
    truth = ExactIndex(embeddings)
    queries = vectors(100, 64, seed=4)[1::2]
    recalls = [len(set(found.search(q, 50)[0]) & set(truth.search(q, 50)[0])) / 50 for q in queries if q.any()]
    assert np.mean(recalls) > 0.85


class WidthsSeen:
    """A graph that notes how wide it was set to search at each search."""

    def __init__(self, graph):
        self._graph = graph
        self.widths = []

    def knn_query(self, *args, **kwargs):
        self.widths.append(self._graph.ef)
        return self._graph.knn_query(*args, **kwargs)

    def __getattr__(self, name):
        return getattr(self._graph, name)


def test_a_wide_search_of_hnsw_is_wide_for_itself_alone(tmp_path):
    index = hnsw(vectors(), tmp_path)
    index._graph = seen = WidthsSeen(index._graph)
    query = vectors()[1]
    narrow = index.search(query, 10)
    wide, _ = index.search(query, 530)
    np.testing.assert_array_equal(index.search(query, 10), narrow)
    assert len(wide) == 530
    assert len(set(seen.widths)) == 1, "one wide request slows every later one"
    truth, _ = ExactIndex(vectors()).search(query, 530)
    assert len(set(wide) & set(truth)) / 530 > 0.95


def test_a_missing_file_is_said_to_be_no_index(tmp_path):
    with pytest.raises(IndexUnavailable):
        HnswIndex.load(tmp_path / "index.hnsw", dimensions=4)


def test_the_same_vectors_give_the_same_bytes(tmp_path):
    Graph(vectors()).save(tmp_path / "a")
    Graph(vectors()).save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
