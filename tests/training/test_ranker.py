"""The ranker of a build: which sessions it learns from, what examples are, when fixed weights stay."""

from __future__ import annotations

import numpy as np
import pytest

from recserv.errors import ModelError
from recserv.model.ranker import Ranker, decode_ranker, encode_ranker
from recserv.training import holdout
from recserv.training.dataset import EventLog
from recserv.training.options import BuildOptions
from recserv.training.ranker import PLAIN_RANKER, learn_ranker
from recserv.training.sessions import build_sessions
from recserv.types import EventType
from tests.factories import tiny_catalog, tiny_log

OPTIONS = BuildOptions(events=("made up",), out="", dimensions=8, epochs=0.5, rank_examples=400)


def log_of(*sessions: list[str], times: list[int] | None = None) -> EventLog:
    names = sorted({item for items in sessions for item in items})
    return EventLog(
        item_ids=names,
        session_count=len(sessions),
        session=np.repeat(np.arange(len(sessions)), [len(items) for items in sessions]).astype(np.int32),
        item=np.array([names.index(item) for items in sessions for item in items], np.int32),
        event_type=np.full(sum(map(len, sessions)), EventType.VIEW, np.uint8),
        time_ms=None if times is None else np.repeat(times, [len(items) for items in sessions]).astype(np.int64),
    )


def test_whole_sessions_are_set_aside_the_newest_ones():
    sessions = [["a", "b"]] * 60 + [["c", "d"]] * 40
    times = [1000 + n for n in range(100)]
    parts = holdout.split(log_of(*sessions[::-1], times=times[::-1]), share=0.4)
    assert parts is not None
    older, newer = parts
    assert (older.session_count, newer.session_count) == (60, 40)
    assert (older.item_ids, newer.item_ids) == (["a", "b"], ["c", "d"])
    assert older.time_ms is not None
    assert newer.time_ms is not None
    assert older.time_ms.max() < newer.time_ms.min()


def test_without_times_the_last_rows_are_the_newest():
    parts = holdout.split(log_of(*[["a"]] * 70, *[["b"]] * 30), share=0.3)
    assert parts is not None
    assert parts[1].item_ids == ["b"]


def test_too_few_sessions_are_not_split():
    assert holdout.split(log_of(*[["a", "b"]] * 30)) is None


def test_events_without_an_item_stay_without_one_after_the_split():
    log = log_of(*[["a", "b"]] * 100)
    log.item[::2] = -1
    parts = holdout.split(log, share=0.3)
    assert parts is not None
    assert all(part.item_ids == ["b"] and set(part.item.tolist()) == {-1, 0} for part in parts)


def test_repeats_are_kept_where_they_are_asked_for():
    log = log_of(["a", "a", "b"])
    log.event_type[:] = [EventType.VIEW, EventType.VIEW, EventType.PURCHASE]
    item_rows = np.arange(2, dtype=np.int32)
    assert build_sessions(log, item_rows, seed=0, keep_repeats=True).items.tolist() == [0, 0, 1]
    assert build_sessions(log, item_rows, seed=0).items.tolist() == [0, 1]
    log.event_type[1] = EventType.ADD_TO_CART
    assert build_sessions(log, item_rows, seed=0, keep_repeats=True).items.tolist() == [0, 1]


@pytest.fixture(scope="module")
def learned():
    return [learn_ranker(tiny_log(200, 1500), tiny_catalog(200), OPTIONS) for _ in range(2)]


def test_a_build_learns_its_ranker_on_the_newest_sessions(learned):
    ranker, report = learned[0]
    assert report is not None
    assert report.examples > 200
    assert 0 < report.found <= 1
    assert report.chosen == (sum(report.learned) > sum(report.plain))
    assert ranker.kind == ("mlp" if report.chosen else "linear")


def test_the_same_log_and_seed_give_the_same_ranker(learned):
    (first, _), (again, _) = learned
    assert encode_ranker(first) == encode_ranker(again)
    assert decode_ranker(encode_ranker(first)) == first


def test_fixed_weights_stay_where_there_is_too_little_to_learn_from():
    assert learn_ranker(tiny_log(50, 30), None, OPTIONS) == (PLAIN_RANKER, None)
    none = BuildOptions(events=("made up",), out="", rank_examples=0)
    assert learn_ranker(tiny_log(200, 1500), None, none) == (PLAIN_RANKER, None)


GOOD = Ranker("mlp", ("a", "b"), (1.0, 2.0), (0.0, 0.0), (1.0, 1.0), ((1.0,), (2.0,)), (0.5,), (1.0,))


@pytest.mark.parametrize(
    "broken",
    [
        b'{"kind":"mlp","names":["a"],"weights":[1.0],"extra":1}',
        b'{"kind":"mlp","names":["a"],"weights":[1.0]}',
        b'{"kind":"linear","names":["a","a"],"weights":[1.0,1.0]}',
        b'{"kind":"linear","names":["a"],"weights":[1e999]}',
        b'{"kind":"linear","names":["a"],"weights":[1.0],"bias":[1.0]}',
        encode_ranker(GOOD).replace(b'"scale":[1.0,1.0]', b'"scale":[1.0,0.0]'),
        encode_ranker(GOOD).replace(b"[2.0]]", b"[2.0,3.0]]"),
        encode_ranker(GOOD).replace(b'"bias":[0.5]', b'"bias":[]'),
    ],
)
def test_a_file_that_is_no_ranker_is_refused_by_name(broken):
    assert decode_ranker(encode_ranker(GOOD)) == GOOD
    with pytest.raises(ModelError, match=r"ranker\.json"):
        decode_ranker(broken)
