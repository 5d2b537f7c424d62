"""What the catalogue says of an item's place: where it says much, where nothing, and never that a new item sells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from recserv.training.assemble import assemble
from recserv.training.catalog import Catalog
from recserv.training.content import blend, content_features, effect_of_content
from recserv.training.content_effect import Effect, content_effect
from recserv.training.linear_algebra import Matrix, unit_rows
from recserv.training.options import BuildOptions
from tests.factories import tiny_catalog, tiny_log

GROUPS, DIMENSIONS = 6, 16
POPULAR = DIMENSIONS - 1
"""The direction that every session has something of."""


def titled(titles: list[str]) -> Catalog:
    """Products that have a title and nothing else."""
    catalog = tiny_catalog(len(titles))
    empty = pa.array([[] for _ in titles], pa.list_(pa.string()))
    return replace(
        catalog,
        text=catalog.text | {"title": pa.array(titles)},
        lists={"categories": empty, "tags": empty},
        price=np.zeros(len(titles)),
    )


def random_titles(items: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(f"word{word}" for word in rng.integers(40, size=3)) for _ in range(items)]


def learned_by_sales(items: int, cold: int, seed: int = 0) -> tuple[npt.NDArray[np.int64], Matrix, Matrix]:
    """Groups, vectors and support as training leaves them: an item of n sessions shows sqrt(n / (n + 8)) of its own
    place and chance beside it, and lies the nearer to the popular direction the more it sells. The last are cold.
    """
    rng = np.random.default_rng(seed)
    groups = rng.integers(GROUPS, size=items)
    support = np.sort(np.rint(10 ** rng.uniform(0, 3, items)))[::-1].astype(np.float32)
    shown = np.sqrt(support / (support + 8))[:, None]
    chance = rng.standard_normal((items, DIMENSIONS)) / np.sqrt(DIMENSIONS)
    vectors = shown * np.eye(DIMENSIONS)[groups] + np.sqrt(1 - shown**2) * chance
    vectors[:, POPULAR] += 0.4 * (np.log10(support) - 1)
    vectors[items - cold :], support[items - cold :] = 0, 0
    return groups, unit_rows(vectors.astype(np.float32)), support


def test_titles_that_say_nothing_leave_every_learned_vector_as_it_is_without_a_catalogue() -> None:
    log, options = tiny_log(200, 600), BuildOptions(events=(), out="", dimensions=16, epochs=0)
    alone, of_alone = assemble(log, None, options)
    beside, of_beside = assemble(log, titled(random_titles(200, seed=1)), options)
    place = {item_id: row for row, item_id in enumerate(of_beside.ids)}
    rows = [place[item_id] for item_id in of_alone.ids]
    assert len(rows) == 180
    assert (beside.arrays["embeddings"][rows] == alone.arrays["embeddings"]).all()


@pytest.mark.parametrize("seed", range(8))
def test_whatever_random_titles_seem_to_say_hardly_moves_anything(seed: int) -> None:
    _, vectors, support = learned_by_sales(600, 60, seed)
    content = effect_of_content(titled(random_titles(600, seed)), np.arange(600), vectors, support, seed=0)
    moved, _ = blend(vectors, content, support)
    assert (moved * vectors).sum(axis=1)[:540].mean() > 0.99


def test_a_cold_item_lies_by_its_like_and_not_as_if_it_sold_like_them() -> None:
    groups, vectors, support = learned_by_sales(600, 60)
    titles = [f"thing of kind{group}" for group in groups.tolist()]
    content = effect_of_content(titled(titles), np.arange(600), vectors, support, seed=0)
    placed, origin = blend(vectors, content, support)
    assert origin.tolist() == [1] * 540 + [2] * 60
    assert (placed[540:, :GROUPS].argmax(axis=1) == groups[540:]).all()
    # Nothing places a cold item before those that sell, in the sessions of everybody.
    sold = placed[:540][support[:540] > 30]
    assert placed[540:, POPULAR].max() < np.median(sold[:, POPULAR]) / 4
    cosine = placed[540:] @ placed[:540].T
    like = groups[540:, None] == groups[None, :540]
    assert cosine[like].mean() > cosine[~like].mean() + 0.5


def test_how_far_content_is_trusted_is_read_off_the_data() -> None:
    groups, vectors, support = learned_by_sales(600, 60)
    titles = [f"thing of kind{group}" for group in groups.tolist()]
    content = effect_of_content(titled(titles), np.arange(600), vectors, support, seed=0)
    assert 2 < content.evidence_half < 16
    few, some, many = content.weights(np.array([1, 10, 500], np.float32)).tolist()
    assert few > some > many > 0
    moved, _ = blend(vectors, content, support)
    own = np.eye(GROUPS)[groups]
    rare = np.flatnonzero((support > 0) & (support < 4))
    assert (moved[rare, :GROUPS] * own[rare]).sum(axis=1).mean() > (vectors[rare, :GROUPS] * own[rare]).sum(
        axis=1
    ).mean() + 0.3
    assert (moved * vectors).sum(axis=1)[support > 500].min() > 0.99


def test_an_item_takes_its_place_by_categories_alone_too() -> None:
    catalog = tiny_catalog(100)
    groups = np.arange(100) % 5
    behaviour = unit_rows(np.eye(5, 8, dtype=np.float32)[groups])
    behaviour[90:] = 0
    support = np.where(np.arange(100) < 90, 10, 0).astype(np.float32)
    content = effect_of_content(catalog, np.arange(100), behaviour, support, seed=0)
    vectors, origin = blend(behaviour, content, support)
    assert (vectors[90:, :5].argmax(axis=1) == groups[90:]).all()
    assert origin.tolist() == [1] * 90 + [2] * 10
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_few_events_lean_on_content_and_many_on_behaviour() -> None:
    behaviour = np.array([[1, 0]] * 3, np.float32)
    content = Effect(np.array([[0, 0.5], [0, 0.5], [0, 0]], np.float32), gain=1.5, evidence_half=10)
    vectors, origin = blend(behaviour, content, np.array([1, 1000, 1], np.float32))
    assert vectors[0, 1] > vectors[0, 0]
    assert vectors[1, 0] > 0.99
    assert vectors[2].tolist() == [1, 0]
    assert origin.tolist() == [1, 1, 1]


@pytest.mark.parametrize("items", [0, 1, 9, 30])
def test_too_few_items_or_vectors_that_are_all_the_same_teach_nothing(items: int) -> None:
    vectors = np.tile(np.array([[0.6, 0.8]], np.float32), (items, 1))
    features = np.eye(items, 4, dtype=np.float32)
    content = content_effect(features, np.ones(items, bool), vectors, np.full(items, 3, np.float32))
    assert not content.vectors.any()
    assert (blend(vectors, content, np.full(items, 3, np.float32))[0] == unit_rows(vectors)).all()


@pytest.mark.parametrize("items", [10, 12, 20, 39])
def test_random_content_of_few_items_moves_none_of_them(items: int) -> None:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        vectors = unit_rows(rng.normal(size=(items, 16)).astype(np.float32))
        features = unit_rows(rng.normal(size=(items, 8)).astype(np.float32))
        support = np.floor(1 + rng.exponential(20, items)).astype(np.float32)
        content = content_effect(features, np.ones(items, bool), vectors, support)
        assert ((blend(vectors, content, support)[0] * vectors).sum(axis=1) > 0.99).all()


def test_items_without_behaviour_and_content_have_no_vector() -> None:
    nothing = np.zeros((2, 2), np.float32)
    for content in (None, Effect(nothing, gain=0.0, evidence_half=0.0)):
        vectors, origin = blend(nothing, content, np.zeros(2, np.float32))
        assert not vectors.any()
        assert origin.tolist() == [0, 0]


def test_content_features_tell_fields_apart_and_ignore_case() -> None:
    catalog = tiny_catalog(3)
    text = dict(catalog.text)
    text["title"] = pa.array(["Red LAMP", "red lamp!", "shovel"])
    text["brand"] = pa.array(["", "", "lamp"])
    lists = {name: pa.array([[], [], []], pa.list_(pa.string())) for name in ("categories", "tags")}
    same = type(catalog)(catalog.ids, text, lists, np.zeros(3), catalog.available, None)
    features = content_features(same)
    cosine = (features @ features.T).toarray()
    assert cosine[0, 1] == pytest.approx(1)
    assert cosine[0, 2] == 0
