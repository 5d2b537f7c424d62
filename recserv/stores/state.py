"""How an event changes a shopper's state: pure functions over immutable structs, no I/O and no clock.

    SessionState, AppendEvent, sequence -> SessionState     apply_to_session
    SessionState, now                   -> SessionState     visible_session
    SessionState, SessionState          -> SessionState     merge_sessions
    Profile, AppendEvent, sequence      -> Profile          apply_to_profile, settle_anonymous
    Profile, Event*, sequence           -> Profile          apply_past
    Profile, Profile                    -> Profile          merge_profiles

Every transition gives a new struct and leaves the old one as it is, so a reader may hold one as long as it likes. Each
is applied once: an event whose sequence the state already has changes nothing, which makes a repeated write harmless.

Taste decays by half every TASTE_HALF_LIFE_MS. Weights are only ever compared at one common time, and a late event adds
what it would weigh by now, so the order of arrival does not change the outcome. A dislike is a taste below zero: it
takes the place of what was liked before it, and gives way to what is liked after it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from math import log2

from recserv.event_weights import EVENT_WEIGHTS
from recserv.stores.base import AppendEvent
from recserv.types import (
    CART_ITEMS_MAX,
    PURCHASES_MAX,
    SESSION_EVENTS_MAX,
    SESSION_WINDOW_MS,
    TASTE_HALF_LIFE_MS,
    TASTE_ITEMS_MAX,
    Event,
    EventType,
    PackedSession,
    Profile,
    Purchase,
    SessionEvent,
    SessionState,
    Taste,
)

EMPTY_SESSION = SessionState()
EMPTY_PROFILE = Profile()

TASTE_WEIGHTS: dict[int, float] = {kind: weight.taste for kind, weight in EVENT_WEIGHTS.items() if weight.taste > 0}
DISLIKED_WEIGHT = EVENT_WEIGHTS[EventType.DISLIKE].taste
RATING_NEUTRAL = 2.0
RATING_BEST = 5.0

# A sum of weights so small that it no longer says anything; it also keeps log2 away from zero.
_TASTE_WEIGHT_MIN = 1e-9
_PER_HALF_LIFE = 1.0 / TASTE_HALF_LIFE_MS

_SETTLES_ANONYMOUS = frozenset((EventType.REMOVE_FROM_CART, EventType.PURCHASE, EventType.DISLIKE))


def apply_to_session(session: SessionState, append: AppendEvent, sequence: int) -> SessionState:
    """The session with the event in its place by (event_time_ms, sequence); the same session for an impression.

    When it is full, events outside the window as of the event's arrival go first, then the oldest by event time.
    """
    event = append.event
    if event.event_type == EventType.IMPRESSION or sequence <= session.version:
        return session
    entry = SessionEvent(
        int(event.event_type),
        event.item_id,
        append.event_time_ms,
        append.arrival_ms,
        sequence,
        event.search_query,
        event.quantity,
        event.value,
        event.dwell_ms,
    )
    events = session.events
    if len(events) >= SESSION_EVENTS_MAX:
        horizon_ms = append.arrival_ms - SESSION_WINDOW_MS
        events = tuple([held for held in events if held.arrival_ms > horizon_ms])
    if not events or events[-1].event_time_ms <= append.event_time_ms:
        events = (*events, entry)
    else:
        # Sequences only grow, so among equal event times the new one is last.
        place = bisect_right(events, append.event_time_ms, key=_event_time_ms)
        events = (*events[:place], entry, *events[place:])
    return SessionState(events[-SESSION_EVENTS_MAX:], sequence)


def _event_time_ms(event: SessionEvent) -> int:
    return event.event_time_ms


def visible_session(session: SessionState, now_ms: int) -> SessionState:
    """The events that arrived less than SESSION_WINDOW_MS ago. The version stays, but for an empty session it is 0."""
    horizon_ms = now_ms - SESSION_WINDOW_MS
    visible = tuple([event for event in session.events if event.arrival_ms > horizon_ms])
    if not visible:
        return EMPTY_SESSION
    return session if len(visible) == len(session.events) else SessionState(visible, session.version)


def merge_sessions(
    session: SessionState | PackedSession, of_user: SessionState | PackedSession
) -> SessionState | PackedSession:
    """The session of a known user, with what the user did outside of any session: in order of event time, as many
    events as a session may have. The version is the sum, which grows with each of the two.
    """
    if not of_user.size:
        return session
    if not session.size:
        return of_user
    events = sorted((*session.events, *of_user.events), key=_event_time_ms)
    return SessionState(tuple(events[-SESSION_EVENTS_MAX:]), session.version + of_user.version)


def apply_to_profile(profile: Profile, append: AppendEvent, sequence: int) -> Profile:
    """The profile after one of its own events; the same profile if `sequence` is already in it."""
    if sequence <= profile.sequence:
        return profile
    event = append.event
    return Profile(
        _cart_after(profile.cart, event),
        _purchases_after(profile.purchases, event, append.event_time_ms),
        _taste_after(profile.taste, event, append.event_time_ms),
        profile.event_count + 1,
        sequence,
        max(profile.updated_ms, append.arrival_ms),
    )


def apply_past(profile: Profile, events: Iterable[Event], sequence: int) -> Profile:
    """The profile after events of the past, each as if it had arrived when it happened; they all have their time.

    What `apply_to_profile` does event by event, in lists that are changed in place: a past has thousands of them.
    """
    cart, purchases, tastes = profile.cart, _PurchaseList(profile.purchases), _TasteList(profile.taste)
    count, updated_ms = profile.event_count, profile.updated_ms
    for event in events:
        time_ms = event.event_time_ms or 0
        cart = _cart_after(cart, event)
        if event.item_id:
            if event.event_type == EventType.PURCHASE:
                purchases.add(event.item_id, time_ms)
            weight = taste_weight(event)
            if weight > 0.0 or event.event_type == EventType.DISLIKE:
                tastes.add(Taste(event.item_id, weight, time_ms))
        count, updated_ms = count + 1, max(updated_ms, time_ms)
    return Profile(cart, purchases.done(), tuple(tastes.held), count, sequence, updated_ms)


class _PurchaseList:
    """`_with_purchase`, in place."""

    def __init__(self, purchases: Iterable[Purchase]):
        held = list(purchases)
        self._ids = [purchase.item_id for purchase in held]
        self._times_ms = [purchase.time_ms for purchase in held]

    def add(self, item_id: str, time_ms: int) -> None:
        ids, times_ms = self._ids, self._times_ms
        if item_id in ids:
            place = ids.index(item_id)
            if times_ms[place] > time_ms:
                return
            del ids[place], times_ms[place]
        place = bisect_right(times_ms, time_ms)
        ids.insert(place, item_id)
        times_ms.insert(place, time_ms)
        if len(ids) > PURCHASES_MAX:
            del ids[0], times_ms[0]

    def done(self) -> tuple[Purchase, ...]:
        return tuple(map(Purchase, self._ids, self._times_ms))


class _TasteList:
    """`_with_taste`, in place. The strength of each is worked out once."""

    def __init__(self, tastes: Iterable[Taste]):
        self.held = list(tastes)
        self._ids = [taste.item_id for taste in self.held]
        self._strengths = _strengths(self.held)

    def add(self, new: Taste) -> None:
        if new.item_id in self._ids:
            place = self._ids.index(new.item_id)
            new = _joined(self.held[place], new)
            self._drop(place)
        self.held.append(new)
        self._ids.append(new.item_id)
        self._strengths += _strengths((new,))
        if len(self.held) > TASTE_ITEMS_MAX:
            self._drop(self._strengths.index(min(self._strengths)))

    def _drop(self, place: int) -> None:
        del self.held[place], self._ids[place], self._strengths[place]


def settles_anonymous(event: Event) -> bool:
    """Whether the event, besides its user's profile, changes the anonymous profile of its session."""
    return bool(event.user_id and event.session_id) and event.event_type in _SETTLES_ANONYMOUS


def settle_anonymous(profile: Profile, append: AppendEvent, sequence: int) -> Profile:
    """The anonymous profile of a session after an event of the session's, by now known, user.

    The event counts in the user's profile only. Yet what the user takes out of the cart, buys or dislikes must not come
    back through the merge with what the same session did before the user was known. A line held in both carts loses
    the units in both.
    """
    event = append.event
    if sequence <= profile.sequence or not settles_anonymous(event):
        return profile
    cart = _cart_after(profile.cart, event)
    taste = profile.taste
    if event.event_type == EventType.DISLIKE:
        taste = _without(taste, event.item_id)
    if cart is profile.cart and taste is profile.taste:
        return profile
    updated_ms = max(profile.updated_ms, append.arrival_ms)
    return Profile(cart, profile.purchases, taste, profile.event_count, sequence, updated_ms)


def merge_profiles(user: Profile, anonymous: Profile) -> Profile:
    """What a known user did, with what the session did before the user was known. Bounded like any profile."""
    if not anonymous.sequence:
        return user
    if not user.sequence:
        return anonymous
    cart = dict(user.cart)
    for item_id, units in anonymous.cart.items():
        cart[item_id] = cart.get(item_id, 0) + units
    purchases = user.purchases
    for purchase in anonymous.purchases:
        purchases = _with_purchase(purchases, purchase)
    return Profile(
        _bounded_cart(cart),
        purchases,
        _merged_taste(user.taste, anonymous.taste),
        user.event_count + anonymous.event_count,
        max(user.sequence, anonymous.sequence),
        max(user.updated_ms, anonymous.updated_ms),
    )


def _cart_after(cart: dict[str, int], event: Event) -> dict[str, int]:
    """The same mapping, untouched, if the event does not change the cart; else a new one."""
    kind, item_id = event.event_type, event.item_id
    if kind == EventType.ADD_TO_CART:
        return _bounded_cart({**cart, item_id: cart.get(item_id, 0) + max(event.quantity, 1)})
    if item_id not in cart or (kind not in (EventType.REMOVE_FROM_CART, EventType.PURCHASE)):
        return cart
    changed = dict(cart)
    left = changed[item_id] - event.quantity
    if kind == EventType.REMOVE_FROM_CART and event.quantity > 0 and left > 0:
        changed[item_id] = left
    else:
        del changed[item_id]
    return changed


def _bounded_cart(cart: dict[str, int]) -> dict[str, int]:
    """Drops the lines inserted first. Takes over the mapping that it is given."""
    while len(cart) > CART_ITEMS_MAX:
        del cart[next(iter(cart))]
    return cart


def _purchases_after(purchases: tuple[Purchase, ...], event: Event, time_ms: int) -> tuple[Purchase, ...]:
    if event.event_type != EventType.PURCHASE or not event.item_id:
        return purchases
    return _with_purchase(purchases, Purchase(event.item_id, time_ms))


def _with_purchase(purchases: tuple[Purchase, ...], new: Purchase) -> tuple[Purchase, ...]:
    """One entry an item, with its latest time, oldest first; a purchase reported late takes its place by time."""
    rest = purchases
    for index, held in enumerate(purchases):
        if held.item_id == new.item_id:
            if held.time_ms > new.time_ms:
                return purchases
            rest = purchases[:index] + purchases[index + 1 :]
            break
    place = bisect_right(rest, new.time_ms, key=_purchase_time_ms)
    return (*rest[:place], new, *rest[place:])[-PURCHASES_MAX:]


def _purchase_time_ms(purchase: Purchase) -> int:
    return purchase.time_ms


def _taste_after(taste: tuple[Taste, ...], event: Event, time_ms: int) -> tuple[Taste, ...]:
    weight = taste_weight(event)
    if not event.item_id or (weight <= 0.0 and event.event_type != EventType.DISLIKE):
        return taste
    return _with_taste(taste, Taste(event.item_id, weight, time_ms))


def _without(taste: tuple[Taste, ...], item_id: str) -> tuple[Taste, ...]:
    """The same tuple if there is nothing of the item in it."""
    kept = tuple([held for held in taste if held.item_id != item_id])
    return taste if len(kept) == len(taste) else kept


def taste_weight(event: Event) -> float:
    if event.event_type == EventType.RATE:
        return min(event.value, RATING_BEST) - RATING_NEUTRAL
    if event.event_type == EventType.DISLIKE:
        return DISLIKED_WEIGHT
    return TASTE_WEIGHTS.get(event.event_type, 0.0)


def _with_taste(taste: tuple[Taste, ...], new: Taste) -> tuple[Taste, ...]:
    for index, held in enumerate(taste):
        if held.item_id == new.item_id:
            return (*taste[:index], *taste[index + 1 :], _joined(held, new))
    taste = (*taste, new)
    return taste if len(taste) <= TASTE_ITEMS_MAX else _without_weakest(taste)


def _joined(one: Taste, other: Taste) -> Taste:
    """The sum as of the later of their times; with a dislike among them the later one, the dislike if they are of one
    time.
    """
    if one.weight < 0.0 or other.weight < 0.0:
        return max(one, other, key=lambda taste: (taste.time_ms, -taste.weight))
    time_ms = max(one.time_ms, other.time_ms)
    weight = one.weight * _decay(time_ms - one.time_ms) + other.weight * _decay(time_ms - other.time_ms)
    return Taste(one.item_id, weight, time_ms)


def _decay(age_ms: int) -> float:
    return float(2.0 ** (-age_ms / TASTE_HALF_LIFE_MS)) if age_ms else 1.0


def _without_weakest(taste: tuple[Taste, ...]) -> tuple[Taste, ...]:
    """Without the item that weighs least at any common time; of equally weak ones, the one that comes first."""
    strengths = _strengths(taste)
    weakest = strengths.index(min(strengths))
    return taste[:weakest] + taste[weakest + 1 :]


def _strengths(tastes: Iterable[Taste]) -> list[float]:
    """log2 of the weight plus time in half-lives: the order of decayed weights, with no time to agree on."""
    return [log2(max(abs(held.weight), _TASTE_WEIGHT_MIN)) + held.time_ms * _PER_HALF_LIFE for held in tastes]


def _merged_taste(user: tuple[Taste, ...], anonymous: tuple[Taste, ...]) -> tuple[Taste, ...]:
    merged = {held.item_id: held for held in user}
    for other in anonymous:
        held = merged.get(other.item_id)
        merged[other.item_id] = other if held is None else _joined(held, other)
    tastes = tuple(merged.values())
    while len(tastes) > TASTE_ITEMS_MAX:
        tastes = _without_weakest(tastes)
    return tastes
