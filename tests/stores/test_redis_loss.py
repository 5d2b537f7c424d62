"""Events over a wire that loses every seventh answer: each is sent until it is acknowledged, and each is there once."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
import redis

from recserv.stores.base import AppendEvent, AppendStatus
from recserv.stores.redis import RedisLimits, RedisStore
from recserv.types import EventType, ShopperKey
from tests.proxy import TcpProxy
from tests.redis_server import running_redis
from tests.stores.redis_support import PATIENT, counted, logged
from tests.stores.support import START_MS, ManualClock, Recorder, make

CUT_EVERY = 7
GROUP_EVENTS = 100
KINDS = (EventType.VIEW, EventType.CLICK, EventType.ADD_TO_CART, EventType.PURCHASE, EventType.IMPRESSION)


def group_of(number: int, chance: random.Random) -> list[AppendEvent]:
    """Events of four sessions: of known users, of nobody, of a user without a session."""
    events = []
    for place in range(GROUP_EVENTS):
        shopper = (number * 4 + place % 4) % 500
        kind = chance.choice(KINDS)
        session_id = f"s{shopper}" if shopper % 5 else ""
        user_id = f"u{shopper // 10}" if shopper % 2 or not session_id else ""
        item_id = "" if kind == EventType.IMPRESSION else f"i{chance.randrange(50)}"
        at = START_MS + number
        events.append(make(f"e{number}-{place}", item_id, at=at, kind=kind, session_id=session_id, user_id=user_id))
    return events


async def send_until_acknowledged(store: RedisStore, events: list[AppendEvent]) -> int:
    """How often some had to be sent again."""
    again = 0
    while events:
        results = await store.append("default", events)
        assert {result.status for result in results} <= {
            AppendStatus.ACCEPTED,
            AppendStatus.DUPLICATE,
            AppendStatus.UNAVAILABLE,
        }
        events = [e for e, r in zip(events, results, strict=True) if r.status == AppendStatus.UNAVAILABLE]
        again += bool(events)
    return again


async def lose_and_check(directory: Path, count: int, seed: int, cut_every: int = CUT_EVERY) -> None:
    chance = random.Random(seed)
    groups = [group_of(number, chance) for number in range(count // GROUP_EVENTS)]
    hooks = Recorder()
    with (
        running_redis(directory, options=["--appendfsync", "everysec"]) as server,
        TcpProxy(server.host, server.port) as proxy,
        redis.Redis(port=server.port) as client,
    ):
        limits = RedisLimits(timeouts=PATIENT, log_entries_max=count)
        store = RedisStore(f"redis://{proxy.address}", clock=ManualClock(), hooks=hooks, limits=limits)
        await store.open()
        proxy.set(cut_every=cut_every)
        again = sum([await send_until_acknowledged(store, group) for group in groups])
        cut = proxy.counts().cut
        proxy.heal()
        assert cut >= len(groups) // cut_every
        check_storage(client, groups)
        await check_profiles(store, groups)
        await store.close()
    print(f"seed {seed}: {count} events stored once; {cut} answers cut, {again} groups sent again")


def check_storage(client: redis.Redis, groups: list[list[AppendEvent]]) -> None:
    sent = [append.event for group in groups for append in group]
    entries = logged(client)
    assert len(entries) == len(sent)
    assert {entry.append.event.event_id for entry in entries} == {event.event_id for event in sent}
    assert counted(client) == Counter(int(event.event_type) for event in sent)


async def check_profiles(store: RedisStore, groups: list[list[AppendEvent]]) -> None:
    """Every profile counts each of its events once, whichever half of a write was lost."""
    events = [append.event for group in groups for append in group]
    of_users = Counter(event.user_id for event in events if event.user_id)
    of_sessions = Counter(event.session_id for event in events if not event.user_id)
    keys = [*[ShopperKey("", user) for user in of_users], *[ShopperKey(session) for session in of_sessions]]
    wanted = [*of_users.values(), *of_sessions.values()]
    assert [state.profile.event_count for state in await store.read("default", keys)] == wanted


@pytest.mark.parametrize("cut_every", [4, CUT_EVERY])
async def test_a_thousand_events_are_stored_once_each(cut_every: int, tmp_path: Path) -> None:
    await lose_and_check(tmp_path, 1_000, seed=cut_every, cut_every=cut_every)


@pytest.mark.slow
async def test_a_hundred_thousand_events_are_stored_once_each(tmp_path: Path) -> None:
    await lose_and_check(tmp_path, 100_000, seed=7)
