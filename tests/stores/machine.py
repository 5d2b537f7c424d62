"""A hypothesis state machine over `StateStore`: what a backend answers and shows, against a plain model.

The model keeps every accepted event in a list and works every state out from the start, by the definitions.
A backend's test subclasses `StoreMachine` and says how its storage begins.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Hashable
from typing import NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from recserv.stores.base import EVENT_AHEAD_MS_MAX, AppendEvent, AppendStatus, StateStore
from recserv.types import (
    SESSION_EVENTS_MAX,
    SESSION_TTL_MS,
    SESSION_WINDOW_MS,
    TASTE_HALF_LIFE_MS,
    Event,
    EventType,
    Profile,
    Purchase,
    ShopperKey,
    ShopperState,
    Taste,
)
from tests.stores.support import DAY_MS, HOUR_MS, MINUTE_MS, START_MS, Backend, ManualClock, append_of

TENANTS = ("default", "other")
SESSIONS = ("", "s1", "s2")
USERS = ("", "u1")
KEYS = [ShopperKey(session_id, user_id) for session_id in SESSIONS for user_id in USERS if session_id or user_id]
KINDS = [kind for kind in EventType if kind != EventType.UNSPECIFIED]
ORIGIN_MS = START_MS
WEIGHTS = {
    EventType.VIEW: 1.0,
    EventType.CLICK: 2.0,
    EventType.ADD_TO_CART: 4.0,
    EventType.PURCHASE: 8.0,
    EventType.DISLIKE: -8.0,
}

keys = st.sampled_from(KEYS)
bodies = st.fixed_dictionaries(
    {
        "event_type": st.sampled_from(KINDS),
        "item_id": st.sampled_from(["a", "b", "c"]),
        "quantity": st.integers(0, 3),
        "properties": st.sampled_from([{}, {"k": "1"}]),
    }
)
# How long ago it happened; None leaves the time to the server.
ages_ms = st.sampled_from([None, None, 0, -MINUTE_MS, 1, 10 * MINUTE_MS, HOUR_MS, 23 * HOUR_MS])


class Stored(NamedTuple):
    tenant: str
    append: AppendEvent
    sequence: int


class PlainModel:
    """What a store must answer, by the definitions and nothing else."""

    def __init__(self) -> None:
        self.stored: list[Stored] = []

    def expected(self, tenant: str, append: AppendEvent) -> tuple[AppendStatus, int]:
        """The answer to an append, and the sequence of the event that took the id first."""
        for held in reversed(self.stored):
            same = (held.tenant, self.timeline(held.append.event), held.append.event.event_id)
            if same == (tenant, self.timeline(append.event), append.event.event_id):
                if append.arrival_ms - held.append.arrival_ms > DAY_MS + EVENT_AHEAD_MS_MAX:
                    break
                alike = held.append.body_hash == append.body_hash
                return (AppendStatus.DUPLICATE if alike else AppendStatus.CONFLICT), held.sequence
        return AppendStatus.ACCEPTED, 0

    @staticmethod
    def timeline(event: Event) -> tuple[str, str]:
        return ("session", event.session_id) if event.session_id else ("user", event.user_id)

    def session(self, tenant: str, key: ShopperKey, now_ms: int) -> tuple[list[tuple[int, str]], int]:
        """(sequence, item id) in the order of the session, and its version."""
        timelines = [("session", key.session_id)] if key.session_id else []
        timelines += [("user", key.user_id)] if key.user_id else []
        parts = [self._timeline_events(tenant, timeline, now_ms) for timeline in timelines]
        mine = sorted((held for part in parts for held in part), key=lambda held: held.append.event_time_ms)
        version = sum(max((held.sequence for held in part), default=0) for part in parts)
        return [(held.sequence, held.append.event.item_id) for held in mine], version

    def _timeline_events(self, tenant: str, timeline: tuple[str, str], now_ms: int) -> list[Stored]:
        mine = [
            held
            for held in self.stored
            if held.tenant == tenant
            and self.timeline(held.append.event) == timeline
            and held.append.event.event_type != EventType.IMPRESSION
            and now_ms - held.append.arrival_ms < SESSION_WINDOW_MS
        ]
        return sorted(mine, key=lambda held: (held.append.event_time_ms, held.sequence))

    def own_profile(self, tenant: str, *, user_id: str = "", session_id: str = "") -> Profile:
        """The user's profile, or the anonymous one of a session."""
        cart: dict[str, int] = {}
        purchases: dict[str, int] = {}
        tastes: dict[str, list[tuple[float, int]]] = {}
        count = 0
        for held in self.stored:
            event, time_ms = held.append.event, held.append.event_time_ms
            kind, item = event.event_type, event.item_id
            own = event.user_id == user_id if user_id else (event.session_id == session_id and not event.user_id)
            settled = not user_id and event.session_id == session_id and bool(event.user_id)
            if held.tenant != tenant or not (own or settled):
                continue
            if kind == EventType.PURCHASE or (kind == EventType.REMOVE_FROM_CART and not event.quantity):
                cart.pop(item, None)
            elif kind == EventType.REMOVE_FROM_CART and item in cart:
                cart[item] -= event.quantity
                if cart[item] <= 0:
                    del cart[item]
            if not own:
                if kind == EventType.DISLIKE:
                    tastes.pop(item, None)
                continue
            count += 1
            if kind == EventType.ADD_TO_CART:
                cart[item] = cart.get(item, 0) + max(event.quantity, 1)
            if kind == EventType.PURCHASE:
                purchases[item] = max(purchases.get(item, time_ms), time_ms)
            if kind in WEIGHTS:
                tastes[item] = joined(tastes.get(item, []), [(WEIGHTS[kind], time_ms)])
        return plain_profile(cart, purchases, tastes, count)

    def profile(self, tenant: str, key: ShopperKey) -> Profile:
        if not key.user_id:
            return self.own_profile(tenant, session_id=key.session_id)
        user = self.own_profile(tenant, user_id=key.user_id)
        if not key.session_id:
            return user
        anonymous = self.own_profile(tenant, session_id=key.session_id)
        cart = dict(user.cart)
        for item, units in anonymous.cart.items():
            cart[item] = cart.get(item, 0) + units
        purchases = {p.item_id: p.time_ms for p in user.purchases}
        for p in anonymous.purchases:
            purchases[p.item_id] = max(purchases.get(p.item_id, p.time_ms), p.time_ms)
        tastes = {t.item_id: [(t.weight, t.time_ms)] for t in user.taste}
        for t in anonymous.taste:
            tastes[t.item_id] = joined(tastes.get(t.item_id, []), [(t.weight, t.time_ms)])
        return plain_profile(cart, purchases, tastes, user.event_count + anonymous.event_count)


def joined(held: list[tuple[float, int]], new: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """Weights with their times. A dislike stands alone: the later word counts, the dislike if they are of one time."""
    both = [*held, *new]
    if all(weight > 0 for weight, _ in both) or not held:
        return both
    latest = [max(time_ms for _, time_ms in parts) for parts in (held, new)]
    if latest[0] == latest[1]:
        return [part for part in both if part[0] < 0][:1]
    return held if latest[0] > latest[1] else new


def as_of_zero(parts: list[tuple[float, int]]) -> float:
    """A sum of decayed weights, scaled to a fixed point of time."""
    return sum(weight * 2.0 ** ((time_ms - ORIGIN_MS) / TASTE_HALF_LIFE_MS) for weight, time_ms in parts)


def plain_profile(
    cart: dict[str, int], purchases: dict[str, int], tastes: dict[str, list[tuple[float, int]]], count: int
) -> Profile:
    """Tastes weigh what they did at the latest of their times."""
    latest = {item: max(time_ms for _, time_ms in parts) for item, parts in tastes.items()}
    return Profile(
        cart=cart,
        purchases=tuple(Purchase(item, time_ms) for item, time_ms in purchases.items()),
        taste=tuple(
            Taste(item, as_of_zero(parts) * 2.0 ** ((ORIGIN_MS - latest[item]) / TASTE_HALF_LIFE_MS), latest[item])
            for item, parts in tastes.items()
        ),
        event_count=count,
    )


def assert_same_profile(found: Profile, wanted: Profile) -> None:
    assert found.cart == wanted.cart
    assert {p.item_id: p.time_ms for p in found.purchases} == {p.item_id: p.time_ms for p in wanted.purchases}
    assert [p.time_ms for p in found.purchases] == sorted(p.time_ms for p in found.purchases)
    assert found.event_count == wanted.event_count
    scaled = {t.item_id: as_of_zero([(t.weight, t.time_ms)]) for t in found.taste}
    expected = {t.item_id: as_of_zero([(t.weight, t.time_ms)]) for t in wanted.taste}
    assert scaled.keys() == expected.keys()
    for item, weight in expected.items():
        assert math.isclose(scaled[item], weight, rel_tol=1e-6)


class StoreMachine(RuleBasedStateMachine):
    """Subclasses give `make_backend`, and may look into the storage in `check_storage`."""

    def make_backend(self) -> Backend:
        raise NotImplementedError

    async def check_storage(self, store: StateStore, stored: list[Stored]) -> None:
        """Called at the end, and before a restart."""

    def order_of(self, tenant: str, event: Event) -> Hashable:
        """Events with an equal one have sequences that can be compared."""
        return None

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.model = PlainModel()
        self.backend = self.make_backend()
        self.store = self.runner.run(self.backend.start(self.clock))

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.runner.run(self._finish())
            self.runner.close()

    async def _finish(self) -> None:
        await self.check_storage(self.store, self.model.stored)
        await self.store.close()

    def _append(self, tenant: str, appends: list[AppendEvent]) -> None:
        results = self.runner.run(self.store.append(tenant, appends))
        assert len(results) == len(appends)
        for append, result in zip(appends, results, strict=True):
            status, sequence = self.model.expected(tenant, append)
            assert result.status == status
            if status == AppendStatus.ACCEPTED:
                order = self.order_of(tenant, append.event)
                before = [h for h in self.model.stored if self.order_of(h.tenant, h.append.event) == order]
                assert result.sequence > max((held.sequence for held in before), default=0)
                self.model.stored.append(Stored(tenant, append, result.sequence))
            elif status == AppendStatus.DUPLICATE:
                assert result.sequence == sequence
            else:
                assert result.sequence == 0

    def _event(self, event_id: str, key: ShopperKey, age_ms: int | None, body: dict[str, object]) -> AppendEvent:
        time_ms = None if age_ms is None else self.clock() - age_ms
        event = Event(
            event_id=event_id,
            session_id=key.session_id,
            user_id=key.user_id,
            event_time_ms=time_ms,
            **body,  # type: ignore[arg-type]
        )
        return append_of(event, self.clock())

    @rule(
        tenant=st.sampled_from(TENANTS),
        entries=st.lists(st.tuples(st.integers(0, 9), keys, ages_ms, bodies), min_size=1, max_size=4),
    )
    def ingest(self, tenant: str, entries: list[tuple[int, ShopperKey, int | None, dict[str, object]]]) -> None:
        """Few ids, so some are used again, within a call too."""
        self._append(tenant, [self._event(f"e{n}", key, age_ms, body) for n, key, age_ms, body in entries])

    @rule(entries=st.lists(st.tuples(keys, ages_ms, bodies), min_size=1, max_size=4))
    def ingest_new(self, entries: list[tuple[ShopperKey, int | None, dict[str, object]]]) -> None:
        number = len(self.model.stored)
        appends = [self._event(f"n{number}-{n}", key, age, body) for n, (key, age, body) in enumerate(entries)]
        self._append("default", appends)

    @precondition(lambda self: self.model.stored)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.model.stored))
        self._append(held.tenant, [append_of(held.append.event, self.clock())])

    @precondition(lambda self: self.model.stored)
    @rule(data=st.data())
    def send_again_changed(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.model.stored))
        event = held.append.event
        fields = {name: getattr(event, name) for name in event.__struct_fields__}
        changed = Event(**{**fields, "value": event.value + 1.0})
        self._append(held.tenant, [append_of(changed, self.clock())])

    @rule(span_ms=st.sampled_from([1, MINUTE_MS, 16 * MINUTE_MS, SESSION_WINDOW_MS, SESSION_TTL_MS, DAY_MS]))
    def wait(self, span_ms: int) -> None:
        self.clock.advance(span_ms)

    @rule()
    def restart(self) -> None:
        self.runner.run(self._finish())
        self.store = self.runner.run(self.backend.start(self.clock))

    @invariant()
    def shows_what_was_acknowledged(self) -> None:
        if not hasattr(self, "store"):
            return
        for tenant in TENANTS:
            states = self.runner.run(self.store.read(tenant, KEYS))
            for key, state in zip(KEYS, states, strict=True):
                self._check(tenant, key, state)

    def _check(self, tenant: str, key: ShopperKey, state: ShopperState) -> None:
        session, version = self.model.session(tenant, key, self.clock())
        assert len(session) < SESSION_EVENTS_MAX, "keep the histories short of the bound; it has its own test"
        assert [(event.sequence, event.item_id) for event in state.session.events] == session
        assert state.session.version == version
        assert_same_profile(state.profile, self.model.profile(tenant, key))
