"""When a worker that ended is started again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from recserv.app.fleet.restart import ATTEMPTS, DELAY_S_MAX, FIRST_DELAY_S, STAYED_UP_S, Slot, all_hopeless


def crash(slot: Slot, now_s: float, up_s: float | None) -> float:
    """A life that begins at `now_s`; `up_s` None: it never served."""
    slot.forked(1)
    if up_s is not None:
        slot.served(now_s)
    return slot.ended(now_s + (up_s or 0.0), as_told=False)


def test_a_crash_loop_is_slowed_down_up_to_a_limit() -> None:
    slot = Slot(1)
    delays = [crash(slot, 100.0 * n, up_s=1.0) for n in range(12)]
    assert delays[:4] == [FIRST_DELAY_S * factor for factor in (1, 2, 4, 8)]
    assert delays[-1] == DELAY_S_MAX
    assert not slot.hopeless


def test_a_worker_that_stayed_up_is_started_at_once_and_its_past_forgotten() -> None:
    slot = Slot(1)
    for n in range(8):
        crash(slot, n, up_s=0.5)
    assert crash(slot, 100.0, up_s=STAYED_UP_S) == 0.0
    assert crash(slot, 500.0, up_s=1.0) == FIRST_DELAY_S


def test_a_worker_that_was_told_to_end_is_started_at_once() -> None:
    slot = Slot(1)
    slot.forked(1)
    slot.served(0.0)
    assert slot.ended(0.1, as_told=True) == 0.0
    assert slot.failures == 0


def test_a_worker_that_never_serves_is_hopeless_after_some_attempts() -> None:
    slot = Slot(1)
    hopeless = []
    for n in range(ATTEMPTS):
        crash(slot, n, up_s=None)
        hopeless.append(slot.hopeless)
    assert hopeless == [False] * (ATTEMPTS - 1) + [True]


def test_failed_starts_do_not_add_up_across_a_start_that_served() -> None:
    slot = Slot(1)
    for n in range(ATTEMPTS - 1):
        crash(slot, n, up_s=None)
    crash(slot, 10.0, up_s=0.1)
    crash(slot, 20.0, up_s=None)
    assert not slot.hopeless


def test_all_is_lost_only_if_every_slot_is() -> None:
    lost, alive = Slot(1, starts_failed=ATTEMPTS), Slot(2)
    assert not all_hopeless([lost, alive])
    assert all_hopeless([lost, lost])


@given(st.lists(st.one_of(st.none(), st.floats(0, 100)), max_size=60))
def test_every_end_is_followed_by_another_start_after_a_bounded_delay(lives: list[float | None]) -> None:
    slot, now_s = Slot(1), 0.0
    for up_s in lives:
        delay_s = crash(slot, now_s, up_s)
        now_s += (up_s or 0.0) + delay_s
        assert 0.0 <= delay_s <= DELAY_S_MAX
        assert slot.failures >= slot.starts_failed
