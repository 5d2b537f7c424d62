"""Learned item vectors: what they find, what they must not do, and that the gradients written by hand are right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recserv.training.session_prefixes import Contexts, split
from recserv.training.session_softmax import Batch, Parameters, Softmax
from recserv.training.session_space import EpochReport, Optimiser, SessionSpace, Settings, learn_session_space
from recserv.training.sessions import Sessions
from tests.ext import session_space_oracles as oracles
from tests.training.support import sessions_of

ITEMS = 40


def clusters(rng: np.random.Generator, count: int = 600) -> list[list[int]]:
    """Sessions that stay among the even or among the odd items."""
    return [(2 * rng.integers(0, ITEMS // 2, 5) + rng.integers(0, 2)).tolist() for _ in range(count)]


def pairs(rng: np.random.Generator, count: int = 600) -> list[list[int]]:
    """Each item at random is followed by its partner: only the last event says what comes."""
    first = rng.integers(0, ITEMS, (count, 4))
    return np.stack((first, first ^ 1), axis=2).reshape(count, 8).tolist()


def learn(sessions: Sessions, items: int = ITEMS, **changes: object) -> SessionSpace:
    options: dict[str, object] = {"dimensions": 16, "epochs": 3, "seed": 0, "holdout_share": 0.0}
    return learn_session_space(sessions, items, **(options | changes))  # type: ignore[arg-type]


def best(space: SessionSpace, context: list[int], k: int) -> list[int]:
    """As serving does it: the items nearest to the weighted sum of the context."""
    newest_first = np.array(context[::-1])
    weights = space.position_weights[: len(context)] * space.importance[newest_first]
    scores = space.vectors @ (weights @ space.vectors[newest_first])
    return np.argsort(-scores, kind="stable")[:k].tolist()


def assert_sound(space: SessionSpace, items: int, dimensions: int) -> None:
    assert space.vectors.shape == (items, dimensions)
    assert space.importance.shape == (items,)
    for array in (space.vectors, space.importance, space.position_weights):
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        assert np.isfinite(array).all()
    norms = np.linalg.norm(space.vectors, axis=1)
    assert np.all((norms == 0) | (np.abs(norms - 1) < 1e-4))
    assert (space.importance > 0).all()
    assert space.position_weights[0] == 1


def test_items_of_one_cluster_come_to_lie_together() -> None:
    space = learn(sessions_of(clusters(np.random.default_rng(1))))
    similar = space.vectors @ space.vectors.T
    same = np.add.outer(np.arange(ITEMS), np.arange(ITEMS)) % 2 == 0
    assert similar[same].mean() > similar[~same].mean() + 0.8
    for context in ([0, 2], [1, 3]):
        assert {item % 2 for item in best(space, context, 15)} == {context[0] % 2}


def test_what_follows_the_last_item_is_found() -> None:
    space = learn(sessions_of(pairs(np.random.default_rng(2))), epochs=8)
    contexts = [one[:7] for one in pairs(np.random.default_rng(3), 100)]
    hits = [one[-1] ^ 1 in best(space, one, 2) for one in contexts]
    assert np.mean(hits) > 0.6, "chance is 0.05"


def test_position_weights_fall_where_only_the_last_event_matters() -> None:
    space = learn(sessions_of(pairs(np.random.default_rng(4))), epochs=8)
    assert space.position_weights[0] == 1
    assert (space.position_weights[1:7] < 0.5).all()
    # No context here reaches further back: what was never used has not moved.
    assert len(np.unique(space.position_weights[7:])) == 1


def test_positions_weigh_alike_in_baskets_without_order() -> None:
    baskets = [one for one in clusters(np.random.default_rng(4)) if len(set(one)) == 5]
    space = learn(sessions_of([sorted(one) for one in baskets], unordered=True), epochs=6)
    np.testing.assert_allclose(space.position_weights[:4], 1, atol=0.25)


def test_an_unordered_basket_is_asked_for_each_of_its_items() -> None:
    rng = np.random.default_rng(0)
    prefixes, _ = split(sessions_of([[0, 1, 2, 3], [4, 5]], unordered=True), 0, 20, rng)
    asked = np.zeros(6)
    for _ in range(3000):
        prefixes.shuffle(rng)
        np.add.at(asked, prefixes.items[prefixes.targets], 1)
    np.testing.assert_allclose(asked / asked.sum(), prefixes.frequency(), atol=0.01)
    np.testing.assert_allclose(prefixes.frequency(), np.array([3, 3, 3, 3, 2, 2]) / 16)


def test_contexts_are_what_came_before_from_the_newest() -> None:
    prefixes, _ = split(sessions_of([[7, 8, 9, 8], [3, 7]]), 0, 2, np.random.default_rng(0))
    contexts = prefixes.contexts(prefixes.targets)
    parts = np.split(prefixes.vocabulary[contexts.items], contexts.segments[1:-1])
    assert [part.tolist() for part in parts] == [[7], [8, 7], [9, 8], [3]]
    assert contexts.places.tolist() == [0, 0, 1, 0, 1, 0]


def test_held_out_sessions_are_the_newest_and_not_trained_on() -> None:
    lists = [[0, 1, 2]] * 95 + [[3, 4, 0]] * 5
    prefixes, held_out = split(sessions_of(lists), 0.05, 20, np.random.default_rng(0))
    assert prefixes.vocabulary.tolist() == [0, 1, 2]
    assert held_out.count == 0, "of two items that training does not know, nothing is left to ask"
    lists = [[0, 1, 2]] * 95 + [[2, 9, 1, 0]] * 5
    prefixes, held_out = split(sessions_of(lists), 0.05, 20, np.random.default_rng(0))
    assert len(prefixes.targets) == 2 * 95
    assert prefixes.vocabulary[held_out.answers].tolist() == [1, 0] * 5


def test_same_seed_same_bytes() -> None:
    sessions = sessions_of(clusters(np.random.default_rng(5), 200) + [[0, 1, 2]] * 20)
    sessions = replace(sessions, unordered=np.arange(sessions.count) % 2 == 0)
    first, second, other = (learn(sessions, seed=seed, holdout_share=0.1) for seed in (3, 3, 4))
    for name in ("vectors", "importance", "position_weights"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()
    assert first.vectors.tobytes() != other.vectors.tobytes()


def test_learning_leaves_sessions_and_start_vectors_unchanged() -> None:
    sessions = sessions_of(clusters(np.random.default_rng(6), 50), unordered=True)
    items, weights = sessions.items.copy(), sessions.weights.copy()
    start = np.ones((ITEMS, 16), np.float32)
    learn(sessions, start=start)
    assert np.array_equal(sessions.items, items)
    assert np.array_equal(sessions.weights, weights)
    assert (start == 1).all()


def test_reports_tell_loss_and_hits_on_held_out_sessions() -> None:
    reports: list[EpochReport] = []
    sessions = sessions_of(clusters(np.random.default_rng(7)))
    learn(sessions, epochs=2.5, holdout_share=0.2, on_epoch=reports.append)
    assert [round(report.epoch, 1) for report in reports] == [1, 2, 2.5]
    assert reports[-1].loss < reports[0].loss
    assert reports[-1].hit_rate is not None
    assert reports[-1].hit_rate > 0.8
    assert reports[-1].prefixes == 120 * 4
    learn(sessions, epochs=1, on_epoch=reports.append)
    assert reports[-1].hit_rate is None


def test_without_epochs_the_vectors_are_the_normalised_start() -> None:
    start = np.random.default_rng(8).standard_normal((ITEMS, 16)).astype(np.float32)
    start[3] = 0
    sessions = sessions_of([list(range(ITEMS))])
    space = learn(sessions, epochs=0, start=start)
    expected = start / np.maximum(np.linalg.norm(start, axis=1, keepdims=True), 1e-9)
    rest = np.arange(ITEMS) != 3
    np.testing.assert_allclose(space.vectors[rest], expected[rest], atol=1e-6)
    assert_sound(space, ITEMS, 16)


def test_items_never_beside_another_have_no_vector_and_mean_importance() -> None:
    space = learn(sessions_of([[0, 1, 2]] * 30 + [[5]] * 10), 8)
    assert_sound(space, 8, 16)
    lonely = np.array([3, 4, 5, 6, 7])
    assert (space.vectors[lonely] == 0).all()
    assert (space.importance[lonely] == 1).all()
    np.testing.assert_allclose(space.importance[:3].mean(), 1, rtol=1e-5)


@pytest.mark.parametrize("lists", [[], [[0]], [[0, 1]], [[0, 0]], [[0, 1], [1, 0]], [[2] * 30] * 3, [[]], [[], [0, 1]]])
@pytest.mark.parametrize("unordered", [False, True])
def test_next_to_nothing_to_learn_from_is_no_error(lists: list[list[int]], unordered: bool) -> None:
    assert_sound(learn(sessions_of(lists, unordered=unordered), 3, holdout_share=0.5), 3, 16)


def test_no_items_at_all_give_an_empty_space() -> None:
    assert_sound(learn(sessions_of([]), 0), 0, 16)


def test_the_largest_rate_does_not_blow_up() -> None:
    rng = np.random.default_rng(9)
    lists = clusters(rng, 100) + [[0] * 15] * 20
    space = learn(sessions_of(lists), epochs=20, settings=Settings(rate_max=1.0, temperature=0.02, dropout=0.9))
    assert_sound(space, ITEMS, 16)


def test_arguments_out_of_range_are_refused() -> None:
    sessions = sessions_of([[0, 1, 2]])
    for changes in ({"epochs": float("nan")}, {"epochs": -1}, {"dimensions": 0}, {"holdout_share": 0.9}):
        with pytest.raises(ValueError):
            learn(sessions, **changes)
    with pytest.raises(ValueError):
        learn(sessions, 2)
    with pytest.raises(ValueError):
        learn(sessions, start=np.zeros((3, 3), np.float32))
    for bad in ({"rate_max": 0.0}, {"rate_max": float("nan")}, {"temperature": 0.001}, {"places": 0}, {"dropout": 1.0}):
        with pytest.raises(ValueError):
            Settings(**bad)  # type: ignore[arg-type]


def a_batch(rng: np.random.Generator, items: int = 7, places: int = 4) -> tuple[Parameters, Batch]:
    segments = np.array([0, 1, 4, 6, 10])
    contexts = Contexts(
        items=rng.integers(0, items, 10).astype(np.int32),
        places=(np.arange(10) - np.repeat(segments[:-1], np.diff(segments))).astype(np.int32),
        weights=rng.uniform(1, 3, 10).astype(np.float32),
        segments=segments,
    )
    candidates = np.array([0, 2, 3, 4, 6], np.int32)
    batch = Batch(contexts, candidates, np.array([1, 0, 4, 1], np.int32), rng.uniform(0.1, 1, 5), key=11)
    parameters = Parameters(
        rng.standard_normal((items, 6)), 0.3 * rng.standard_normal((places, 1)), 0.3 * rng.standard_normal((items, 1))
    )
    return parameters, batch


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("group", ["vectors", "positions", "importance"])
def test_gradients_equal_finite_differences(group: str, dropout: float) -> None:
    parameters, batch = a_batch(np.random.default_rng(10))
    softmax = Softmax(7, 6, temperature=0.2, dropout=dropout, dtype=np.float64)
    found = softmax.gradients(parameters, batch)
    dense = np.zeros_like(getattr(parameters, group))
    if group == "positions":
        dense[:] = found.positions
    else:
        dense[found.rows if group == "vectors" else found.context_rows] = getattr(found, group)
    values, step = getattr(parameters, group), 1e-6
    expected = np.zeros_like(values)
    for at in np.ndindex(values.shape):
        kept = values[at]
        losses = []
        for moved in (kept + step, kept - step):
            values[at] = moved
            losses.append(softmax.gradients(parameters, batch).loss)
        values[at] = kept
        expected[at] = (losses[0] - losses[1]) / (2 * step)
    np.testing.assert_allclose(dense, expected, rtol=1e-5, atol=1e-7)
    assert np.abs(expected).max() > 1e-3


def test_the_loss_is_that_of_the_corrected_softmax_over_tiles() -> None:
    rng = np.random.default_rng(11)
    count = 300
    segments = np.arange(count + 1)
    contexts = Contexts(
        rng.integers(0, 9, count).astype(np.int32), np.zeros(count, np.int32), np.ones(count, np.float32), segments
    )
    columns, inclusion = rng.integers(0, 9, count).astype(np.int32), rng.uniform(0.01, 1, 9)
    parameters = Parameters(rng.standard_normal((9, 5)), np.zeros((2, 1)), rng.standard_normal((9, 1)))
    batch = Batch(contexts, np.arange(9, dtype=np.int32), columns, inclusion, key=0)
    loss = Softmax(9, 5, temperature=0.07, dropout=0.0, dtype=np.float64).gradients(parameters, batch).loss
    units = parameters.vectors / np.linalg.norm(parameters.vectors, axis=1, keepdims=True)
    scores = units[contexts.items] @ units.T / 0.07 - np.log(inclusion)
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    assert loss == pytest.approx(-np.log(shares[np.arange(count), columns]).mean())


def test_every_parameter_follows_its_own_momentum() -> None:
    """Moments that are lost or shared hardly show in the loss: so each step is compared with the algorithm itself."""
    rng = np.random.default_rng(12)
    parameters, _ = a_batch(rng)
    mine = Optimiser(parameters)
    softmax = Softmax(7, 6, temperature=0.2, dropout=0.2, dtype=np.float64)
    twins = {name: oracles.Adam(getattr(parameters, name)) for name in ("vectors", "positions", "importance")}
    for step in range(1, 31):
        _, batch = a_batch(rng)
        found = softmax.gradients(parameters, replace(batch, key=step))
        twins["vectors"].step(found.rows, found.vectors, 0.01 * step)
        twins["importance"].step(found.context_rows, found.importance, 0.01 * step)
        twins["positions"].step(slice(None), found.positions, 0.01 * step)
        mine.step(found, 0.01 * step)
        for name, twin in twins.items():
            np.testing.assert_allclose(getattr(parameters, name), twin.values, rtol=1e-9, atol=1e-9, err_msg=name)
