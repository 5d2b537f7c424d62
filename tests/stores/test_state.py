from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recserv.stores.base import AppendEvent
from recserv.stores.state import (
    EMPTY_PROFILE,
    EMPTY_SESSION,
    apply_past,
    apply_to_profile,
    apply_to_session,
    merge_profiles,
    settle_anonymous,
    visible_session,
)
from recserv.types import (
    CART_ITEMS_MAX,
    PURCHASES_MAX,
    SESSION_EVENTS_MAX,
    SESSION_WINDOW_MS,
    TASTE_HALF_LIFE_MS,
    TASTE_ITEMS_MAX,
    EventType,
    Profile,
    SessionState,
)
from tests.stores.support import HOUR_MS, MINUTE_MS, START_MS, make

KINDS = [kind for kind in EventType if kind != EventType.UNSPECIFIED]


@st.composite
def histories(draw: st.DrawFn) -> list[AppendEvent]:
    """Events of one shopper in order of arrival, some dated hours back."""
    now_ms = START_MS
    events = []
    for number in range(draw(st.integers(0, 40))):
        now_ms += draw(st.sampled_from([0, 1, 1000, 10 * MINUTE_MS]))
        kind = draw(st.sampled_from(KINDS))
        item_id = "" if kind == EventType.SEARCH else f"i{draw(st.integers(0, 5))}"
        events.append(
            make(
                f"e{number}",
                item_id,
                at=now_ms,
                kind=kind,
                quantity=draw(st.integers(0, 3)),
                value=draw(st.sampled_from([0.0, 1.0, 3.5, 5.0, 100.0])),
                event_time_ms=now_ms - draw(st.sampled_from([-MINUTE_MS, 0, 1, HOUR_MS, 20 * HOUR_MS])),
            )
        )
    return events


def profile_of(events: list[AppendEvent], start: Profile = EMPTY_PROFILE, first: int = 1) -> Profile:
    for sequence, append in enumerate(events, first):
        start = apply_to_profile(start, append, sequence)
    return start


def session_of(events: list[AppendEvent]) -> SessionState:
    session = EMPTY_SESSION
    for sequence, append in enumerate(events, 1):
        session = apply_to_session(session, append, sequence)
    return session


def weights(profile: Profile, at_ms: int) -> dict[str, float]:
    return {t.item_id: t.weight * 2.0 ** (-(at_ms - t.time_ms) / TASTE_HALF_LIFE_MS) for t in profile.taste}


@given(histories())
def test_an_event_that_is_already_in_changes_nothing(events: list[AppendEvent]) -> None:
    session, profile = session_of(events), profile_of(events)
    for sequence, append in enumerate(events, 1):
        assert apply_to_session(session, append, sequence) is session
        assert apply_to_profile(profile, append, sequence) is profile


@given(histories())
def test_a_transition_leaves_what_it_was_given_as_it_was(events: list[AppendEvent]) -> None:
    session, profile = EMPTY_SESSION, EMPTY_PROFILE
    for sequence, append in enumerate(events, 1):
        before = (repr(session), repr(profile))
        apply_to_profile(profile, append, sequence)
        apply_to_session(session, append, sequence)
        settle_anonymous(profile, append, sequence)
        merge_profiles(profile, profile)
        assert (repr(session), repr(profile)) == before
        session, profile = apply_to_session(session, append, sequence), apply_to_profile(profile, append, sequence)
    untouched = (SessionState(), Profile())
    assert untouched == (EMPTY_SESSION, EMPTY_PROFILE)


@given(histories())
def test_a_session_is_the_plain_sort_of_its_events(events: list[AppendEvent]) -> None:
    session = session_of(events)
    numbered = [(a.event_time_ms, n) for n, a in enumerate(events, 1) if a.event.event_type != EventType.IMPRESSION]
    assert [(e.event_time_ms, e.sequence) for e in session.events] == sorted(numbered)
    assert session.version == max((n for _, n in numbered), default=0)
    now_ms = (events[-1].arrival_ms if events else START_MS) + 5 * MINUTE_MS
    visible = visible_session(session, now_ms)
    assert visible.events == tuple(e for e in session.events if now_ms - e.arrival_ms < SESSION_WINDOW_MS)
    assert visible.version == (session.version if visible.events else 0)


@given(histories(), st.randoms(use_true_random=False))
def test_taste_and_purchases_do_not_depend_on_the_order_of_arrival(
    events: list[AppendEvent], shuffler: random.Random
) -> None:
    events = [append for append in events if append.event.event_type != EventType.DISLIKE]
    shuffled = list(events)
    shuffler.shuffle(shuffled)
    one, other = profile_of(events), profile_of(shuffled)
    assert weights(other, START_MS) == pytest.approx(weights(one, START_MS))
    assert {p.item_id: p.time_ms for p in one.purchases} == {p.item_id: p.time_ms for p in other.purchases}
    assert one.event_count == other.event_count == len(events)


@given(histories(), histories())
def test_profiles_merge_into_a_bounded_whole(user_events: list[AppendEvent], session_events: list[AppendEvent]) -> None:
    user, anonymous = profile_of(user_events), profile_of(session_events, first=100)
    merged = merge_profiles(user, anonymous)
    assert merged.event_count == user.event_count + anonymous.event_count
    assert merged.sequence == max(user.sequence, anonymous.sequence)
    items = {*user.cart, *anonymous.cart}
    assert merged.cart == {item: user.cart.get(item, 0) + anonymous.cart.get(item, 0) for item in items}
    assert {p.item_id for p in merged.purchases} == {p.item_id for p in (*user.purchases, *anonymous.purchases)}
    assert [p.time_ms for p in merged.purchases] == sorted(p.time_ms for p in merged.purchases)
    mine, theirs = weights(user, START_MS), weights(anonymous, START_MS)
    summed = {item: mine.get(item, 0.0) + theirs.get(item, 0.0) for item in {*mine, *theirs}}
    # A dislike adds to nothing: it stands, or gives way.
    disliked = {item for item in summed if mine.get(item, 0.0) < 0 or theirs.get(item, 0.0) < 0}
    found = weights(merged, START_MS)
    assert {item: found.pop(item) in (mine.get(item), theirs.get(item)) for item in disliked} == dict.fromkeys(
        disliked, True
    )
    assert found == pytest.approx({item: weight for item, weight in summed.items() if item not in disliked})


def test_merging_nothing_gives_the_other_as_it_is() -> None:
    profile = profile_of([make("e1")])
    assert merge_profiles(profile, EMPTY_PROFILE) is profile
    assert merge_profiles(EMPTY_PROFILE, profile) is profile


def test_a_full_session_drops_what_left_the_window_before_it_drops_the_oldest() -> None:
    # These arrived long ago but are dated ahead of everything that follows.
    gone = [make(f"g{n}", at=START_MS, event_time_ms=START_MS + 5 * MINUTE_MS) for n in range(SESSION_EVENTS_MAX)]
    late_ms = START_MS + SESSION_WINDOW_MS
    session = session_of([*gone, make("late", "late", at=late_ms, event_time_ms=START_MS)])
    assert [event.item_id for event in visible_session(session, late_ms).events] == ["late"]


def test_a_later_event_weighs_more_the_closer_it_is_to_a_purchase() -> None:
    kinds = (EventType.VIEW, EventType.CLICK, EventType.ADD_TO_CART, EventType.PURCHASE)
    added = [weights(profile_of([make("e", kind=kind)]), START_MS)["item"] for kind in kinds]
    assert added == sorted(set(added))


@pytest.mark.parametrize("kind", [EventType.IMPRESSION, EventType.SEARCH, EventType.REMOVE_FROM_CART])
def test_impressions_searches_and_cart_removals_add_no_taste(kind: EventType) -> None:
    assert profile_of([make("e", kind=kind)]).taste == ()


def test_a_dislike_and_a_liking_of_one_item_do_not_add_up_the_later_one_counts() -> None:
    like, dislike = make("e1", "a", kind=EventType.PURCHASE), make("e2", "a", kind=EventType.DISLIKE)
    later = make("e3", "a", at=START_MS + 1)
    for events in ([like, dislike], [dislike, like]):
        # Of one time: the dislike counts, whichever arrived first.
        [taste] = profile_of(events).taste
        assert taste.weight < 0
    for events in ([like, dislike, later], [dislike, later], [later, dislike]):
        assert profile_of(events).taste == profile_of([later]).taste


def test_a_dislike_is_not_pushed_out_by_as_many_views() -> None:
    views = [make(f"v{n}", f"v{n}") for n in range(2 * TASTE_ITEMS_MAX)]
    profile = profile_of([make("e", "bad", kind=EventType.DISLIKE), *views])
    assert len(profile.taste) == TASTE_ITEMS_MAX
    assert profile.taste[0].item_id == "bad"


def test_a_rating_adds_taste_only_above_the_neutral_one() -> None:
    assert profile_of([make("e", kind=EventType.RATE, value=2.0)]).taste == ()
    assert profile_of([make("e", kind=EventType.RATE, value=4.0)]).taste[0].weight == pytest.approx(2.0)
    assert profile_of([make("e", kind=EventType.RATE, value=1e9)]).taste[0].weight == pytest.approx(3.0)


def test_taste_halves_with_its_half_life() -> None:
    later_ms = START_MS + TASTE_HALF_LIFE_MS
    profile = profile_of([make("e1", "a"), make("e2", "a", at=later_ms)])
    assert (profile.taste[0].weight, profile.taste[0].time_ms) == (pytest.approx(1.5), later_ms)
    late = profile_of([make("e1", "a", at=later_ms), make("e2", "a", at=later_ms, event_time_ms=START_MS)])
    assert late.taste == profile.taste


def test_a_full_taste_loses_the_item_that_weighs_least_by_now() -> None:
    old = [make(f"o{n}", f"o{n}", kind=EventType.CLICK) for n in range(TASTE_ITEMS_MAX - 1)]
    faded = make("faded", "faded", kind=EventType.ADD_TO_CART, at=START_MS - 3 * TASTE_HALF_LIFE_MS)
    profile = profile_of([faded, *old, make("new", "new")])
    names = {taste.item_id for taste in profile.taste}
    assert (len(names), "faded" in names, "new" in names) == (TASTE_ITEMS_MAX, False, True)


def test_cart_and_purchases_are_bounded_and_lose_the_oldest() -> None:
    adds = [make(f"a{n}", f"i{n}", kind=EventType.ADD_TO_CART) for n in range(CART_ITEMS_MAX + 5)]
    assert list(profile_of(adds).cart) == [f"i{n}" for n in range(5, CART_ITEMS_MAX + 5)]
    buys = [make(f"p{n}", f"i{n}", kind=EventType.PURCHASE, at=START_MS + n) for n in range(PURCHASES_MAX + 5)]
    assert [p.item_id for p in profile_of(buys).purchases] == [f"i{n}" for n in range(5, PURCHASES_MAX + 5)]


def test_a_purchase_reported_late_takes_its_place_by_time() -> None:
    buys = [
        make("p1", "b", kind=EventType.PURCHASE, event_time_ms=START_MS),
        make("p2", "a", kind=EventType.PURCHASE, event_time_ms=START_MS - 5),
        make("p3", "b", kind=EventType.PURCHASE, event_time_ms=START_MS - 9),
    ]
    assert [(p.item_id, p.time_ms) for p in profile_of(buys).purchases] == [("a", START_MS - 5), ("b", START_MS)]


def test_settling_touches_cart_and_disliked_taste_only() -> None:
    anonymous = profile_of([make("e1", "a", kind=EventType.ADD_TO_CART, quantity=3), make("e2", "b")])
    bought = settle_anonymous(anonymous, make("e3", "a", kind=EventType.PURCHASE, user_id="u"), 3)
    assert (bought.cart, bought.purchases, bought.event_count, bought.sequence) == ({}, (), 2, 3)
    assert bought.taste == anonymous.taste
    fewer = settle_anonymous(anonymous, make("e3", "a", kind=EventType.REMOVE_FROM_CART, quantity=1, user_id="u"), 3)
    assert fewer.cart == {"a": 2}
    disliked = settle_anonymous(anonymous, make("e3", "b", kind=EventType.DISLIKE, user_id="u"), 3)
    assert ([taste.item_id for taste in disliked.taste], disliked.cart) == (["a"], {"a": 3})


@pytest.mark.parametrize(
    "append",
    [
        make("e3", "a", kind=EventType.PURCHASE),
        make("e3", "a", kind=EventType.ADD_TO_CART, user_id="u"),
        make("e3", "other", kind=EventType.PURCHASE, user_id="u"),
        make("e3", "a", kind=EventType.PURCHASE, session_id="", user_id="u"),
    ],
    ids=["no user", "not taken out", "another item", "no session"],
)
def test_settling_leaves_alone_what_does_not_concern_it(append: AppendEvent) -> None:
    anonymous = profile_of([make("e1", "a", kind=EventType.ADD_TO_CART)])
    assert settle_anonymous(anonymous, append, 9) is anonymous


def arrived_then(events: list[AppendEvent]) -> list[AppendEvent]:
    """As if each had arrived when it happened, and says so."""
    return [
        make(
            append.event.event_id,
            append.event.item_id,
            at=append.event_time_ms,
            kind=append.event.event_type,
            quantity=append.event.quantity,
            value=append.event.value,
            event_time_ms=append.event_time_ms,
        )
        for append in sorted(events, key=lambda append: append.event_time_ms)
    ]


@given(histories(), histories())
def test_a_past_is_what_its_events_were_live(before: list[AppendEvent], past: list[AppendEvent]) -> None:
    start, lived = profile_of(before), arrived_then(past)
    wanted = profile_of(lived, start, len(before) + 1)
    last = wanted.sequence
    assert apply_past(start, [append.event for append in lived], last) == wanted


def test_a_long_past_keeps_to_the_bounds_of_a_profile() -> None:
    kinds = (EventType.PURCHASE, EventType.ADD_TO_CART, EventType.VIEW, EventType.DISLIKE)
    lived = [
        make(
            f"e{n}", f"i{n % 1001}", at=START_MS + n * HOUR_MS, kind=kinds[n % 4], event_time_ms=START_MS + n * HOUR_MS
        )
        for n in range(2000)
    ]
    found = apply_past(EMPTY_PROFILE, [append.event for append in lived], 2000)
    assert found == profile_of(lived)
    bounds = (CART_ITEMS_MAX, PURCHASES_MAX, TASTE_ITEMS_MAX)
    assert (len(found.cart), len(found.purchases), len(found.taste)) == bounds
