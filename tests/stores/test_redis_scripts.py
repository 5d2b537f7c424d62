"""The scripts against the rules in Python: the same events through both, and the stored bytes compared."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recserv.errors import StoreUnavailable
from recserv.stores.base import EVENT_AHEAD_MS_MAX, AppendEvent, AppendStatus
from recserv.stores.decide import prepare
from recserv.stores.packed import SESSION_HEAD, pack_profile, pack_session, unpack_profile, unpack_session
from recserv.stores.redis_calls import (
    APPEND_SCRIPT,
    PROFILE_SCRIPT,
    RedisRetention,
    Stored,
    Undecoded,
    append_calls,
    locate,
    parse_append,
    profile_calls,
)
from recserv.stores.redis_keys import partition_of
from recserv.stores.state import (
    EMPTY_PROFILE,
    EMPTY_SESSION,
    apply_to_profile,
    apply_to_session,
    settle_anonymous,
)
from recserv.types import (
    CART_ITEMS_MAX,
    PURCHASES_MAX,
    SESSION_EVENTS_MAX,
    SESSION_TTL_MS,
    TASTE_ITEMS_MAX,
    EventType,
    Profile,
)
from tests.redis_server import RedisServer
from tests.stores.support import DAY_MS, MINUTE_MS, START_MS, make

RETENTION = RedisRetention(
    ids_ms=DAY_MS, log_ms=DAY_MS, log_entries_max=1000, profile_ms=DAY_MS, anonymous_profile_ms=DAY_MS
)
SESSION_STORED_MAX = 128
KINDS = [kind for kind in EventType if kind != EventType.UNSPECIFIED]


@pytest.fixture(scope="module")
def client(unsynced_redis: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis(port=unsynced_redis.port) as client:
        client.script_load(APPEND_SCRIPT)
        yield client


def run(client: redis.Redis, appends: list[AppendEvent]) -> None:
    """All are new; they get the sequences 1, 2, ..."""
    located = [entry for entry in locate([prepare("t", append) for append in appends]) if not isinstance(entry, str)]
    assert len(located) == len(appends)
    stored = []
    for call in append_calls(list(enumerate(located)), RETENTION):
        answered, undecoded = parse_append(client.execute_command(*call.args), len(call.places))
        assert undecoded == Undecoded()
        stored += answered
    assert [entry.sequence for entry in stored] == list(range(1, len(appends) + 1))


def assert_same(found: Profile, wanted: Profile) -> None:
    """Weights may differ in the last digits: powers and logarithms are not those of the same library."""
    assert [(t.item_id, t.time_ms) for t in found.taste] == [(t.item_id, t.time_ms) for t in wanted.taste]
    assert all(math.isclose(f.weight, w.weight, rel_tol=1e-12) for f, w in zip(found.taste, wanted.taste, strict=True))
    assert (
        pack_profile(found)[: -sum(map(taste_bytes, found.taste)) or None]
        == (pack_profile(wanted)[: -sum(map(taste_bytes, wanted.taste)) or None])
    )


def taste_bytes(taste: object) -> int:
    return 18 + len(taste.item_id.encode())  # type: ignore[attr-defined]


events = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.integers(0, 8).map("i{}".format),
        st.integers(0, 4),
        st.sampled_from([0.0, 1.0, 2.0, 3.5, 5.0, 9.0]),
        st.integers(0, 3 * DAY_MS),
        st.sampled_from([1, MINUTE_MS, 20 * MINUTE_MS]),
        st.booleans(),
    ),
    max_size=40,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=events, chunk=st.integers(1, 12))
def test_a_script_changes_states_as_the_rules_do(client: redis.Redis, events: list[tuple], chunk: int) -> None:
    client.flushdb()
    now_ms = START_MS
    appends = []
    for number, (kind, item, quantity, value, age_ms, pause_ms, known) in enumerate(events):
        now_ms += pause_ms
        fields = {"quantity": quantity, "value": value, "event_time_ms": now_ms - age_ms}
        user = "u" if known else ""
        appends.append(make(f"e{number}", item, at=now_ms, kind=kind, user_id=user, **fields))
    session, profile = EMPTY_SESSION, EMPTY_PROFILE
    sequence = 0
    for start in range(0, len(appends), chunk):
        group = appends[start : start + chunk]
        located = [entry for entry in locate([prepare("t", append) for append in group]) if not isinstance(entry, str)]
        for call in append_calls(list(enumerate(located)), RETENTION):
            client.execute_command(*call.args)
        for append in group:
            sequence += 1
            session = apply_to_session(session, append, sequence)
            change = settle_anonymous if append.event.user_id else apply_to_profile
            profile = change(profile, append, sequence)
    partition = partition_of("t", "session")
    data = client.get(partition.session(b"ssession"))
    assert (data or pack_session(EMPTY_SESSION)) == with_oldest(pack_session(session), data)
    assert unpack_session(data or pack_session(EMPTY_SESSION)) == session
    held = client.get(partition.profile(b"ssession"))
    assert_same(unpack_profile(held or pack_profile(EMPTY_PROFILE)), profile)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    before=st.integers(SESSION_EVENTS_MAX - 3, SESSION_EVENTS_MAX + 30),
    steps=st.lists(
        st.tuples(
            st.sampled_from([1, 1, 10_000, 20 * MINUTE_MS]),
            st.sampled_from([0, 0, 0, 5_000, 25 * MINUTE_MS]),
            st.sampled_from([EventType.VIEW, EventType.SEARCH, EventType.IMPRESSION]),
        ),
        max_size=3 * SESSION_EVENTS_MAX // 2,
    ),
    chunk=st.integers(1, SESSION_EVENTS_MAX + 20),
)
def test_a_full_session_changes_as_the_rules_do(
    client: redis.Redis, before: int, steps: list[tuple[int, int, EventType]], chunk: int
) -> None:
    client.flushdb()
    now_ms, session, sequence = START_MS, EMPTY_SESSION, 0
    groups = [[(1, 0, EventType.VIEW)] * before]
    groups += [steps[start : start + chunk] for start in range(0, len(steps), chunk)]
    name = partition_of("t", "session").session(b"ssession")
    for group in groups:
        appends = []
        for pause_ms, late_ms, kind in group:
            now_ms, sequence = now_ms + pause_ms, sequence + 1
            query = "q" * (sequence % 5) if kind == EventType.SEARCH else ""
            append = make(
                f"e{sequence}", f"i{sequence}", at=now_ms, kind=kind, search_query=query, event_time_ms=now_ms - late_ms
            )
            appends.append(append)
            session = apply_to_session(session, append, sequence)
        located = [
            entry for entry in locate([prepare("t", append) for append in appends]) if not isinstance(entry, str)
        ]
        for call in append_calls(list(enumerate(located)), RETENTION):
            client.execute_command(*call.args)
        data = client.get(name)
        assert isinstance(data, bytes)
        assert unpack_session(data) == session
        _, _, stored, version, last_ms, oldest_ms = SESSION_HEAD.unpack_from(data)
        assert len(session.events) <= stored <= SESSION_STORED_MAX
        assert (version, last_ms) == (session.version, session.events[-1].event_time_ms)
        assert oldest_ms <= min(held.arrival_ms for held in session.events)


def test_a_session_is_cut_to_the_events_that_count_once_so_many_are_stored(client: redis.Redis) -> None:
    client.flushdb()
    appends = [make(f"e{n}", f"i{n}", at=START_MS + n) for n in range(SESSION_STORED_MAX + 2)]
    name = partition_of("t", "session").session(b"ssession")
    stored = []
    for append in appends:
        located = [entry for entry in locate([prepare("t", append)]) if not isinstance(entry, str)]
        for call in append_calls(list(enumerate(located)), RETENTION):
            client.execute_command(*call.args)
        stored.append(SESSION_HEAD.unpack_from(client.get(name) or b"")[2])
    assert stored == [*range(1, SESSION_STORED_MAX + 1), SESSION_EVENTS_MAX, SESSION_EVENTS_MAX + 1]


def with_oldest(packed: bytes, like: bytes | None) -> bytes:
    """The script's bound on arrivals may be older than the oldest arrival."""
    if like is None:
        return packed
    bound, oldest = (int.from_bytes(data[20:28], "little", signed=True) for data in (like, packed))
    assert bound <= oldest
    return packed[:20] + like[20:28] + packed[28:]


def test_every_bound_holds_as_in_the_rules(client: redis.Redis) -> None:
    client.flushdb()
    count = 2 * max(SESSION_EVENTS_MAX, CART_ITEMS_MAX, PURCHASES_MAX, TASTE_ITEMS_MAX) + 7
    appends = []
    for number in range(count):
        at = START_MS + number * MINUTE_MS // 8
        kind = (EventType.ADD_TO_CART, EventType.PURCHASE, EventType.VIEW)[number % 3]
        late_ms = MINUTE_MS if number % 7 == 0 else 0
        appends.append(make(f"e{number}", f"i{number * 37 % 331}", at=at, kind=kind, event_time_ms=at - late_ms))
        appends.append(make(f"c{number}", f"c{number}", at=at, kind=EventType.ADD_TO_CART))
        appends.append(make(f"p{number}", f"p{number}", at=at, kind=EventType.PURCHASE))
    session, profile = EMPTY_SESSION, EMPTY_PROFILE
    for sequence, append in enumerate(appends, 1):
        session = apply_to_session(session, append, sequence)
        profile = apply_to_profile(profile, append, sequence)
    run(client, appends)
    partition = partition_of("t", "session")
    assert unpack_session(client.get(partition.session(b"ssession"))) == session
    assert len(session.events) == SESSION_EVENTS_MAX
    assert (len(profile.cart), len(profile.purchases), len(profile.taste)) == (
        CART_ITEMS_MAX,
        PURCHASES_MAX,
        TASTE_ITEMS_MAX,
    )
    assert_same(unpack_profile(client.get(partition.profile(b"ssession"))), profile)


def test_all_that_is_written_but_for_the_log_may_be_written_twice(client: redis.Redis) -> None:
    """What a Redis that is killed while it writes its file may do: README, Durability."""
    client.flushdb()
    client.config_resetstat()
    test_every_bound_holds_as_in_the_rules(client)
    test_a_session_is_cut_to_the_events_that_count_once_so_many_are_stored(client)
    test_what_the_second_script_writes_expires_too(client)
    used = {name.removeprefix("cmdstat_").partition("|")[0] for name in client.info("commandstats")}
    asks = {"get", "xlen", "time", "keys", "pttl", "info", "config", "evalsha", "script", "flushdb"}
    assert used - asks <= {"set", "setrange", "pexpire", "xadd", "xtrim"}
    assert {"set", "setrange", "xadd"} <= used


def test_everything_written_expires_when_it_should(client: redis.Redis) -> None:
    client.flushdb()
    run(client, [make("e1", "a", kind=EventType.ADD_TO_CART), make("e2", "b")])
    partition = partition_of("t", "session")
    hour_ms = DAY_MS // 24
    spans = {
        partition.session(b"ssession"): (SESSION_TTL_MS, 0),
        partition.profile(b"ssession"): (RETENTION.anonymous_profile_ms, 0),
        partition.log: (RETENTION.log_ms, hour_ms),
        partition.head: (2 * RETENTION.profile_ms, 0),
        **dict.fromkeys(client.keys("*:i:*"), (DAY_MS + EVENT_AHEAD_MS_MAX, MINUTE_MS)),
    }
    assert sorted(client.keys("*")) == sorted(spans)
    assert len(spans) == 6
    for key, (span_ms, slack_ms) in spans.items():
        assert span_ms - MINUTE_MS < client.pttl(key) <= span_ms + slack_ms, key


def test_what_the_second_script_writes_expires_too(client: redis.Redis) -> None:
    client.flushdb()
    [located] = locate([prepare("t", make("e1", user_id="u"))])
    assert not isinstance(located, str)
    client.script_load(PROFILE_SCRIPT)
    [call] = profile_calls([(0, located, Stored(AppendStatus.ACCEPTED, 7, START_MS, True))], RETENTION)
    for _ in range(2):
        client.execute_command(*call.args)
    profile = unpack_profile(client.get(partition_of("t", "u").profile(b"uu")))
    assert (profile.event_count, profile.sequence) == (1, 1)
    assert len(client.keys("*")) == 3
    assert all(client.pttl(key) > DAY_MS - MINUTE_MS for key in client.keys("*"))


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"OK",
        [],
        [1, 7, START_MS, 0, 0, 0, 0],
        [1, 7, START_MS, b"0", 0, 0, 0, 0],
        [1, 7, START_MS, None, 0, 0, 0, 0],
        [0, 7, START_MS, 0, 0, 0, 0, 0],
        [9, 7, START_MS, 0, 0, 0, 0, 0],
    ],
)
def test_an_answer_that_no_script_gives_is_no_acknowledgement(answer: object) -> None:
    with pytest.raises(StoreUnavailable):
        parse_append(answer, 1)
