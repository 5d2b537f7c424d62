from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from recserv.app.importing import ATTEMPTS, PAUSE_S, USERS_A_BATCH, Importer, batches, import_past, past_store
from recserv.errors import StoreUnavailable, UsageError
from recserv.pipeline.ingest import EventIngestor
from recserv.stores.embedded import EmbeddedStore
from recserv.stores.past import PastResult
from recserv.types import DAY_MS, EventType, IngestStatus, ShopperKey, UserPast
from tests.stores.past_contract import past_event, past_of, profile_of
from tests.stores.support import HOUR_MS, MINUTE_MS, START_MS, ManualClock, make, put


class Sleeps:
    def __init__(self) -> None:
        self.spans_s: list[float] = []

    async def __call__(self, span_s: float) -> None:
        self.spans_s.append(span_s)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[EmbeddedStore]:
    store = EmbeddedStore(tmp_path / "state.db", clock=clock)
    await store.open()
    yield store
    await store.close()


def importer(store: object, clock: ManualClock, **options: object) -> Importer:
    return Importer(store, "default", clock=clock, **{"shared": False, **options})  # type: ignore[arg-type]


async def test_an_event_of_the_last_minutes_is_in_its_session_and_one_of_hours_ago_is_not(
    store: EmbeddedStore, clock: ManualClock
) -> None:
    events = [
        past_event(1, "old", START_MS - 30 * DAY_MS, session_id="s"),
        past_event(2, "hours", START_MS - 5 * HOUR_MS, session_id="s"),
        past_event(3, "now", START_MS - 5 * MINUTE_MS, session_id="s"),
    ]
    given = importer(store, clock)
    await given.take([past_of(events)])
    assert (given.done.users, given.done.added, given.done.live) == (1, 3, 2)
    [state] = await store.read("default", [ShopperKey("s", "u")])
    assert [event.item_id for event in state.session.events] == ["now"]
    assert [p.item_id for p in state.profile.purchases] == ["old", "hours", "now"]
    assert state.profile.event_count == 3


async def test_an_event_that_came_in_live_with_the_same_id_counts_once_in_either_order(
    store: EmbeddedStore, clock: ManualClock
) -> None:
    ingestor = EventIngestor(store, clock, retention_ms=DAY_MS)
    before, after = (past_event(n, f"i{n}", START_MS - HOUR_MS, session_id="s", value=2.0) for n in (1, 2))
    await ingestor.ingest("default", [before])
    given = importer(store, clock)
    await given.take([past_of([before, after])])
    assert (given.done.added, given.done.known) == (1, 1)
    [outcome] = await ingestor.ingest("default", [after])
    assert outcome.status is IngestStatus.DUPLICATE
    assert (await profile_of(store)).event_count == 2


async def test_what_was_imported_as_live_counts_once_when_it_is_old(store: EmbeddedStore, clock: ManualClock) -> None:
    past = past_of([past_event(1, "a", START_MS - HOUR_MS)])
    await importer(store, clock).take([past])
    clock.advance(3 * DAY_MS)
    await store.sweep()
    again = importer(store, clock)
    await again.take([past])
    assert (again.done.added, again.done.known) == (0, 1)
    assert (await profile_of(store)).event_count == 1


async def test_an_import_removes_nothing_of_the_log_that_servers_were_told_to_keep(
    tmp_path: Path, clock: ManualClock
) -> None:
    """It does not know how long that is: the state of a server that keeps 30 days of it has them afterwards."""
    path = tmp_path / "kept.db"
    server = EmbeddedStore(path, clock=clock, retention_ms=3 * DAY_MS, log_retention_ms=30 * DAY_MS)
    await server.open()
    await put(server, make("1"))
    await server.close()
    clock.advance(20 * DAY_MS)
    given = past_store(f"embedded:{path}", clock)
    assert isinstance(given, EmbeddedStore)
    await given.open()
    try:
        assert given._sweeping is None
        await importer(given, clock).take([past_of([past_event(2, "a", clock() - HOUR_MS)])])
        assert len(await given.log_after(0, 10)) == 2
    finally:
        await given.close()


@pytest.mark.parametrize(("hours", "live", "old"), [(72, 1, 0), (24, 0, 1)])
async def test_how_long_ids_are_kept_says_what_may_have_come_in_live(
    store: EmbeddedStore, clock: ManualClock, hours: int, live: int, old: int
) -> None:
    given = importer(store, clock, id_retention_ms=hours * HOUR_MS)
    await given.take([past_of([past_event(1, "a", START_MS - 48 * HOUR_MS)])])
    assert (given.done.live, given.done.added - given.done.live) == (live, old)


class Failing:
    """Fails so often before it works."""

    def __init__(self, failures: int):
        self.failures = failures
        self.calls = 0

    async def import_pasts(
        self, tenant: str, pasts: Sequence[UserPast], *, only_remember: bool = False
    ) -> list[PastResult]:
        self.calls += 1
        if self.calls <= self.failures:
            raise StoreUnavailable("away")
        return [PastResult(len(past.events)) for past in pasts]


async def test_a_store_that_is_away_for_a_while_is_waited_for(clock: ManualClock) -> None:
    sleeps, store = Sleeps(), Failing(ATTEMPTS - 1)
    given = importer(store, clock, sleep=sleeps)
    await given.take([past_of([past_event(1, "a", START_MS - 9 * DAY_MS)])])
    assert given.done.added == 1
    assert sleeps.spans_s == [PAUSE_S, 2 * PAUSE_S, 4 * PAUSE_S, 8 * PAUSE_S]


async def test_a_store_that_stays_away_ends_the_import(clock: ManualClock) -> None:
    given = importer(Failing(ATTEMPTS), clock, sleep=Sleeps())
    with pytest.raises(StoreUnavailable, match="away"):
        await given.take([past_of([past_event(1, "a", START_MS - 9 * DAY_MS)])])


@pytest.mark.parametrize(("shared", "pauses"), [(True, [3.0]), (False, [])])
async def test_on_a_store_that_others_use_each_batch_is_followed_by_a_pause_as_long(
    clock: ManualClock, shared: bool, pauses: list[float]
) -> None:
    times_s = iter([10.0, 13.0])
    sleeps = Sleeps()
    given = importer(Failing(0), clock, shared=shared, sleep=sleeps, monotonic=lambda: next(times_s))
    await given.take([past_of([past_event(1, "a", START_MS - 9 * DAY_MS)])])
    assert sleeps.spans_s == pauses


def test_a_batch_is_bounded_by_users_and_by_events(monkeypatch: pytest.MonkeyPatch) -> None:
    small = [past_of([past_event(1, "a", START_MS)], f"u{n}") for n in range(USERS_A_BATCH + 1)]
    assert [len(batch) for batch in batches(small)] == [USERS_A_BATCH, 1]
    monkeypatch.setattr("recserv.app.importing.EVENTS_A_BATCH", 5)
    large = [past_of([past_event(k, "a", START_MS) for k in range(3)], f"u{n}") for n in range(5)]
    assert [len(batch) for batch in batches(large)] == [2, 2, 1]


async def test_a_state_file_that_a_server_holds_is_left_alone(store: EmbeddedStore, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"state\.db is held by a server \(process \d+\): stop it"):
        await import_past(f"embedded:{tmp_path / 'state.db'}", "default", [])


async def test_progress_tells_of_every_event(tmp_path: Path) -> None:
    told: list[int] = []
    pasts = [past_of([past_event(k, "a", START_MS, EventType.VIEW) for k in range(3)], f"u{n}") for n in range(40)]
    done = await import_past(f"embedded:{tmp_path / 'other.db'}", "default", pasts, told.append)
    assert sum(told) == 120
    assert done.added + done.expired == 120
