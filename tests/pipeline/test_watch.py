"""Watches: whom an event concerns, when there is a look, and what becomes of it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from msgspec.structs import replace

from recserv.errors import InvalidInput, StoreUnavailable
from recserv.pipeline.guarded_store import GuardedStore
from recserv.pipeline.watch import Outcome, Watch, Watches, WatchHooks
from recserv.pipeline.watch_answers import answer_digest, digest_of_token, resume_token
from recserv.pipeline.watch_runner import WatchRunner, WatchSettings
from recserv.stores.base import StateVersion
from recserv.types import (
    DegradedReason,
    Event,
    Recommendation,
    RecommendQuery,
    ShopperKey,
)
from tests.pipeline.virtual_time import virtual_time
from tests.pipeline.watch_support import QUERY, answer, event


async def passed(seconds: float) -> None:
    """So much virtual time."""
    await asyncio.sleep(seconds)


# Whom an event concerns


def test_an_event_concerns_whoever_watches_its_session_or_its_user() -> None:
    watches = Watches()
    of = {
        name: Watch(tenant, ShopperKey(session_id, user_id))
        for name, tenant, session_id, user_id in [
            ("session", "t", "s", ""),
            ("user", "t", "", "u"),
            ("both", "t", "s", "u"),
            ("another's", "t", "s2", "u2"),
            ("another tenant's", "t2", "s", "u"),
        ]
    }
    for watch in of.values():
        watches.add(watch)

    def concerned(*events: Event) -> set[str]:
        for watch in of.values():
            watch.lower_flag()
        watches.acknowledged("t", events)
        return {name for name, watch in of.items() if watch.changed.is_set()}

    assert concerned(event("s")) == {"session", "both"}
    assert concerned(event("", "u")) == {"user", "both"}
    assert concerned(event("s", "u")) == {"session", "user", "both"}
    assert concerned(event("other", "u")) == {"user", "both"}
    assert concerned(event("u", "s"), event("other", "other")) == set()
    for watch in of.values():
        watches.remove(watch)
    assert len(watches) == 0
    assert [len(index) for index in (watches._sessions, watches._users, watches._shoppers)] == [0, 0, 0]


def test_a_call_with_many_events_of_a_shopper_touches_each_of_its_watches_once(monkeypatch: pytest.MonkeyPatch) -> None:
    touched: list[Watch] = []
    raise_flag = Watch.raise_flag

    def counted(watch: Watch) -> bool:
        touched.append(watch)
        return raise_flag(watch)

    monkeypatch.setattr(Watch, "raise_flag", counted)
    hooks = Recorder()
    watches = Watches(hooks)
    for _ in range(20):
        watches.add(Watch("t", ShopperKey("s")))
        watches.add(Watch("t", ShopperKey("", "u")))
    for watches_of_one in watches._shoppers.values():
        for watch in watches_of_one:
            watch.lower_flag()
    watches.acknowledged("t", [event("s", "u")] * 100)
    assert len(touched) == 40, "on the loop, before the acknowledgement"
    assert hooks.coalesced == 99 * 40, "every event but the first met a flag that was up"


def test_shoppers_are_probed_for_once_and_in_batches() -> None:
    watches = Watches()
    for n in range(10):
        for _ in range(3):
            watches.add(Watch("t" if n < 7 else "t2", ShopperKey(f"s{n}")))
    batches = watches.shoppers(4)
    assert [(tenant, len(keys)) for tenant, keys in batches] == [("t", 4), ("t", 3), ("t2", 3)]
    assert sorted(key.session_id for _, keys in batches for key in keys) == [f"s{n}" for n in range(10)]


# The runner


class Recorder(WatchHooks):
    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.coalesced = 0

    def on_look(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def on_coalesced(self, changes: int) -> None:
        self.coalesced += changes


class VersionedStore:
    """`version` of every shopper, or `hidden` with a node; `errors` are raised by the next probes."""

    def __init__(self) -> None:
        self.version = 0
        self.hidden = False
        self.errors: list[Exception] = []
        self.probes: list[tuple[float, list[ShopperKey]]] = []

    async def versions(self, tenant: str, keys: Sequence[ShopperKey]) -> list[StateVersion]:
        self.probes.append((asyncio.get_running_loop().time(), list(keys)))
        if self.errors:
            raise self.errors.pop(0)
        return [() if self.hidden else (self.version,)] * len(keys)


class Fixture:
    """A runner on virtual time. `answers` are given to looks one after the other, the last for ever."""

    def __init__(self, store: VersionedStore | None = None, **chosen: float):
        self.hooks = Recorder()
        self.watches = Watches(self.hooks)
        loop = asyncio.get_running_loop()
        guarded = GuardedStore(store) if store is not None else None  # type: ignore[arg-type]
        self.runner = WatchRunner(
            self.watches,
            guarded,
            WatchSettings(**chosen),
            clock=loop.time,
            random=lambda: 1.0,  # type: ignore[arg-type]
        )
        self.answers: list[Recommendation | None] = [answer()]
        self.looks: list[tuple[float, RecommendQuery, bool]] = []
        self.began_s = loop.time()

    async def look(self, query: RecommendQuery, first: bool) -> Recommendation | None:
        self.looks.append((self.now_s(), query, first))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def now_s(self) -> float:
        return round(asyncio.get_running_loop().time() - self.began_s, 3)

    @property
    def looked_s(self) -> list[float]:
        return [at_s for at_s, _, _ in self.looks]

    @asynccontextmanager
    async def watching(
        self, query: RecommendQuery = QUERY, last: bytes = b""
    ) -> AsyncIterator[list[tuple[float, str]]]:
        """(when, first item) of each answer."""
        got: list[tuple[float, str]] = []

        async def watch() -> None:
            async for found, _ in self.runner.watch(query, last, self.look):
                got.append((self.now_s(), found.results[0].item_id))

        task = asyncio.create_task(watch())
        try:
            yield got
            assert not task.done(), "the stream stays open"
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_an_answer_is_sent_at_first_and_then_when_it_is_another_one() -> None:
    with virtual_time():
        fixture = Fixture()
        fixture.answers = [answer("a"), answer("a"), answer("b")]
        async with fixture.watching() as got:
            for _ in range(4):
                await passed(1)
                fixture.watches.acknowledged("default", [event("s")])
            await passed(1)
        assert got == [(0.0, "a"), (2.0, "b")]
        assert fixture.hooks.outcomes == [Outcome.SENT, Outcome.UNCHANGED, Outcome.SENT] + [Outcome.UNCHANGED] * 2
        assert [first for _, _, first in fixture.looks] == [True] + [False] * 4
        assert len(fixture.watches) == 0


async def test_a_watch_that_waits_keeps_no_answer_that_was_not_sent() -> None:
    with virtual_time():
        fixture = Fixture()
        unsent = answer("a")
        held = sys.getrefcount(unsent)
        fixture.answers = [answer("a"), unsent, answer("a")]
        async with fixture.watching():
            await passed(1)
            fixture.watches.acknowledged("default", [event("s")])
            await passed(1)
            assert fixture.hooks.outcomes == [Outcome.SENT, Outcome.UNCHANGED]
            assert sys.getrefcount(unsent) == held


async def test_events_that_come_close_together_are_answered_once() -> None:
    with virtual_time():
        # No event at the moment of a look.
        fixture = Fixture(interval_s=0.105)
        async with fixture.watching():
            for _ in range(30):
                await passed(0.01)
                fixture.watches.acknowledged("default", [event("s")])
            await passed(1)
        assert fixture.looked_s == [0.0, 0.105, 0.21, 0.315]
        assert fixture.hooks.coalesced == 27


async def test_while_an_answer_is_being_written_one_flag_is_all_that_is_kept() -> None:
    with virtual_time():
        fixture = Fixture(interval_s=0.0)
        fixture.answers = [answer(f"a{n}") for n in range(9)]
        answers = fixture.runner.watch(QUERY, b"", fixture.look)
        await anext(answers)
        for _ in range(100):
            fixture.watches.acknowledged("default", [event("s")])
            await asyncio.sleep(0)
        assert len(fixture.looks) == 1
        await anext(answers)
        assert len(fixture.looks) == 2
        await answers.aclose()
        assert len(fixture.watches) == 0


async def test_who_has_the_answer_is_sent_the_next_one_only() -> None:
    with virtual_time():
        fixture = Fixture()
        fixture.answers = [answer("a"), answer("b")]
        async with fixture.watching(last=digest_of_token(resume_token(answer_digest(answer("a"))))) as got:
            await passed(1)
            assert got == []
            fixture.watches.acknowledged("default", [event("s")])
            await passed(1)
        assert got == [(1.0, "b")]
        assert [first for _, _, first in fixture.looks] == [False, False]
        assert [query.known_answer for _, query, _ in fixture.looks] == [answer_digest(answer("a"))] * 2


POOR = answer("popular", degraded_reasons=(DegradedReason.STATE_UNAVAILABLE,))


async def test_trouble_is_waited_out_with_growing_pauses_and_sends_nothing_over_an_answer() -> None:
    with virtual_time():
        fixture = Fixture()
        fixture.answers = [answer("a"), *[None, POOR] * 4, answer("b")]
        async with fixture.watching() as got:
            await passed(1)
            fixture.watches.acknowledged("default", [event("s")])
            await passed(60)
        assert [item_id for _, item_id in got] == ["a", "b"]
        pauses_s = [round(after - before, 3) for before, after in pairwise(fixture.looked_s)]
        assert pauses_s == [1.0, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


async def test_a_first_answer_in_trouble_is_sent_and_the_good_one_after_it_without_an_event() -> None:
    with virtual_time():
        fixture = Fixture()
        fixture.answers = [POOR, POOR, answer("a")]
        async with fixture.watching() as got:
            await passed(10)
        assert got == [(0.0, "popular"), (0.6, "a")]
        assert fixture.hooks.outcomes == [Outcome.SENT, Outcome.POSTPONED, Outcome.SENT]


@pytest.mark.parametrize(
    "reason", [DegradedReason.INDEX_UNAVAILABLE, DegradedReason.INDEX_TIMEOUT, DegradedReason.RANKER_UNAVAILABLE]
)
async def test_an_answer_without_index_or_ranker_is_sent_and_the_whole_one_follows_without_an_event(
    reason: DegradedReason,
) -> None:
    with virtual_time():
        fixture = Fixture()
        lesser = answer("b", degraded_reasons=(reason,))
        fixture.answers = [answer("a"), lesser, lesser, lesser, answer("c")]
        async with fixture.watching() as got:
            await passed(1)
            fixture.watches.acknowledged("default", [event("s")])
            await passed(60)
        assert [item_id for _, item_id in got] == ["a", "b", "c"]
        assert [round(after - before, 3) for before, after in pairwise(fixture.looked_s)] == [1.0, 0.2, 0.4, 0.8]


async def test_an_answer_without_a_source_waits_for_an_event_or_another_model() -> None:
    with virtual_time():
        fixture = Fixture()
        fixture.answers = [answer("a", degraded_reasons=(DegradedReason.SOURCE_UNAVAILABLE,)), answer("b")]
        async with fixture.watching() as got:
            await passed(60)
            assert len(fixture.looked_s) == 1
            fixture.watches.all_changed()
            await passed(1)
        assert [item_id for _, item_id in got] == ["a", "b"]


async def test_a_consistency_token_is_for_the_first_answer_and_the_rest_of_the_query_for_all() -> None:
    with virtual_time():
        fixture = Fixture()
        query = replace(QUERY, consistency_token="t", page_size=3)
        async with fixture.watching(query):
            for _ in range(2):
                await passed(1)
                fixture.watches.acknowledged("default", [event("s")])
            await passed(1)
        assert [found.consistency_token for _, found, _ in fixture.looks] == ["t", "", ""]
        assert [found.page_size for _, found, _ in fixture.looks] == [3, 3, 3]


async def test_a_few_looks_run_at_once_however_many_watch_one_session() -> None:
    fixture = Fixture(looks_at_once=3)
    inside: list[int] = []
    looking = 0

    async def look(query: RecommendQuery, first: bool) -> Recommendation:
        nonlocal looking
        looking += 1
        inside.append(looking)
        await asyncio.sleep(0)
        looking -= 1
        return answer()

    streams = [fixture.runner.watch(QUERY, b"", look) for _ in range(50)]
    await asyncio.gather(*map(anext, streams))
    assert (len(inside), max(inside)) == (50, 3)
    for stream in streams:
        await stream.aclose()


async def test_an_error_of_a_look_ends_the_watch_and_leaves_nothing() -> None:
    fixture = Fixture()

    async def look(query: RecommendQuery, first: bool) -> Recommendation:
        raise InvalidInput([])

    with pytest.raises(InvalidInput):
        await anext(fixture.runner.watch(QUERY, b"", look))
    assert len(fixture.watches) == 0


# A store that others write to


async def test_what_others_wrote_is_found_by_a_probe_and_a_known_version_is_no_news() -> None:
    with virtual_time():
        store = VersionedStore()
        fixture = Fixture(store, probe_s=0.25)
        fixture.answers = [answer("a"), answer("b"), answer("c")]
        async with fixture.watching() as got:
            await passed(2.1)
            assert (len(fixture.looks), fixture.runner.probing) == (1, True)
            store.version += 1
            await passed(2)
            assert got == [(0.0, "a"), (2.25, "b")]
            # Of what was written here no probe finds anything new.
            store.version += 1
            fixture.watches.acknowledged("default", [event("s")])
            await passed(2)
            assert got[2:] == [(4.1, "c")]
            assert len(fixture.looks) == 3
        assert not fixture.runner.probing
        probes = len(store.probes)
        await passed(5)
        assert len(store.probes) == probes, "without watches nobody is asked"


async def test_a_store_that_fails_is_probed_with_growing_pauses_and_what_was_missed_is_found() -> None:
    with virtual_time():
        store = VersionedStore()
        fixture = Fixture(store, probe_s=0.25, probe_pause_s_max=1.0)
        fixture.answers = [answer("a"), answer("b")]
        async with fixture.watching() as got:
            await passed(0.1)
            store.errors = [StoreUnavailable("down"), TimeoutError(), StoreUnavailable("down")]
            store.version += 1
            await passed(5)
        # The first probe is the watch's own.
        tries_s = [round(at_s - fixture.began_s, 3) for at_s, _ in store.probes[1:6]]
        assert tries_s == [0.25, 0.75, 1.75, 2.75, 3.0]
        assert got == [(0.0, "a"), (2.75, "b")]


async def test_a_watch_that_could_not_be_probed_for_looks_again_once_it_can() -> None:
    with virtual_time():
        store = VersionedStore()
        store.errors = [StoreUnavailable("down")]
        fixture = Fixture(store, probe_s=0.25)
        fixture.answers = [answer("a"), answer("b")]
        async with fixture.watching() as got:
            await passed(3)
        assert got == [(0.0, "a"), (0.25, "b")]
        assert len(fixture.looks) == 2


async def test_what_cannot_be_probed_for_now_is_no_news_until_it_can() -> None:
    with virtual_time():
        store = VersionedStore()
        fixture = Fixture(store, probe_s=0.25)
        fixture.answers = [answer("a"), answer("b"), answer("c")]
        async with fixture.watching() as got:
            await passed(1.1)
            store.hidden = True
            await passed(2)
            assert len(fixture.looks) == 1
            # The watch's own probe before this look is of no use either.
            fixture.watches.acknowledged("default", [event("s")])
            await passed(2)
            assert len(fixture.looks) == 2
            store.hidden, store.version = False, 1
            await passed(2)
        assert got == [(0.0, "a"), (3.1, "b"), (5.25, "c")]


async def test_a_watch_that_finds_no_room_asks_the_store_once_and_misses_nothing() -> None:
    with virtual_time():
        store = VersionedStore()
        fixture = Fixture(store, probe_s=1000.0)
        fixture.answers = [answer("a"), *[None] * 9, answer("b"), answer("c")]
        async with fixture.watching() as got:
            await passed(1)
            fixture.watches.acknowledged("default", [event("s")])
            await passed(500)
            assert [item_id for _, item_id in got] == ["a", "b"]
            assert len(store.probes) == 2, "one for the first look, one for the event"
            store.version += 1
            await passed(600)
        assert [item_id for _, item_id in got] == ["a", "b", "c"]
