from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recserv import v1 as pb
from recserv.client.failures import CallFailed
from recserv.client.options import MESSAGE_BYTES_MAX
from recserv.client.outbox import EVENT_BYTES_MAX, GROUP_BYTES_MAX, GROUPS_IN_FLIGHT_MAX, Entry, Outbox
from recserv.client.wire import Ingested
from recserv.types import IngestStatus

DONE = Ingested(IngestStatus.ACCEPTED, "t")
DOWN = CallFailed("UNAVAILABLE", "store", retry_after_s=2.0)
BAD = CallFailed("INVALID_ARGUMENT", "no")
CUT = CallFailed("UNAVAILABLE", "connection reset")


class Once:
    """A promise that never says it is settled: settling it twice shows."""

    def __init__(self) -> None:
        self.outcomes: list[Ingested | BaseException] = []

    def done(self) -> bool:
        return False

    def set_result(self, result: Ingested) -> None:
        self.outcomes.append(result)

    def set_exception(self, exception: BaseException) -> None:
        self.outcomes.append(exception)


def _filled(outbox: Outbox, count: int, expires_s: float = 100.0) -> list[Once]:
    promises = [Once() for _ in range(count)]
    for number, promise in enumerate(promises):
        outbox.add(Entry(pb.Event(event_id=str(number)), promise, expires_s))
    return promises


def _ids(events: list[pb.Event]) -> list[int]:
    return [int(event.event_id) for event in events]


def test_groups_are_in_order_and_bounded() -> None:
    outbox = Outbox(events_max=5, group_max=2)
    _filled(outbox, 5)
    assert outbox.full
    assert [_ids(outbox.next_group(0.0)) for _ in range(4)] == [[0, 1], [2, 3], [4], []]


def _sized(number: int, size_bytes: int) -> pb.Event:
    """An event of exactly so many bytes, below 2 MiB or of EVENT_BYTES_MAX or more."""
    event = pb.Event(event_id=str(number))
    event.search_query = "x" * size_bytes
    event.search_query = "x" * (2 * size_bytes - event.ByteSize())
    assert event.ByteSize() == size_bytes
    return event


def test_many_large_events_are_many_groups_that_a_server_takes() -> None:
    outbox = Outbox(events_max=1000, group_max=500)
    sizes = [60_000] * 100 + [1000] * 200 + [GROUP_BYTES_MAX + 1, 1000, EVENT_BYTES_MAX]
    for number, size_bytes in enumerate(sizes):
        outbox.add(Entry(_sized(number, size_bytes), Once(), 100.0))
    groups = []
    while group := outbox.next_group(0.0):
        groups.append(group)
        outbox.answered([DONE] * len(group), 0.0)
    assert max(pb.StreamEventsRequest(events=group).ByteSize() for group in groups) <= MESSAGE_BYTES_MAX
    assert [number for group in groups for number in _ids(group)] == list(range(len(sizes)))
    # As full as they may be, and what is larger than a group goes alone.
    assert [len(group) for group in groups] == [17, 17, 17, 17, 17, 163, 52, 1, 1, 1]


def test_an_event_that_fits_no_message_is_refused_and_not_sent_over_and_over() -> None:
    outbox = Outbox(events_max=5)
    with pytest.raises(ValueError, match=f"at most {MESSAGE_BYTES_MAX}"):
        outbox.add(Entry(_sized(0, EVENT_BYTES_MAX + 1), Once(), 100.0))
    assert len(outbox) == 0
    # The largest that is not refused is no larger than a message may be.
    assert pb.StreamEventsRequest(events=[_sized(0, EVENT_BYTES_MAX)]).ByteSize() <= MESSAGE_BYTES_MAX


def test_at_most_a_window_of_groups_is_out() -> None:
    outbox = Outbox(events_max=100, group_max=1)
    _filled(outbox, 20)
    while outbox.next_group(0.0):
        pass
    assert outbox.in_flight == GROUPS_IN_FLIGHT_MAX
    assert outbox.wait_s(0.0) is None


def test_an_answer_settles_its_group_each_event_for_itself() -> None:
    outbox = Outbox(events_max=10)
    good, bad, down = _filled(outbox, 3)
    outbox.next_group(0.0)
    assert outbox.answered([DONE, BAD, DOWN], now_s=1.0) == 2
    assert good.outcomes == [DONE]
    assert bad.outcomes == [BAD]
    assert down.outcomes == []
    assert outbox.wait_s(1.0) == 2.0
    assert outbox.next_group(2.9) == []
    assert _ids(outbox.next_group(3.0)) == [2]


def test_a_broken_stream_is_sent_again_in_order() -> None:
    outbox = Outbox(events_max=10, group_max=2)
    _filled(outbox, 5)
    outbox.next_group(0.0)
    outbox.next_group(0.0)
    outbox.broken(CUT, now_s=1.0)
    assert [_ids(outbox.next_group(1.0)) for _ in range(3)] == [[0, 1], [2, 3], [4]]


def test_after_its_time_an_event_fails_with_what_was_wrong_last() -> None:
    outbox = Outbox(events_max=10)
    [rejected] = _filled(outbox, 1, expires_s=5.0)
    outbox.next_group(0.0)
    outbox.answered([DOWN], now_s=5.0)
    assert rejected.outcomes == [DOWN]
    [cut] = _filled(outbox, 1, expires_s=5.0)
    outbox.broken(CUT, now_s=5.0)
    assert cut.outcomes == [CUT]
    assert len(outbox) == 0


def test_an_error_that_no_retry_cures_fails_every_promise() -> None:
    outbox = Outbox(events_max=10, group_max=1)
    promises = _filled(outbox, 3)
    outbox.next_group(0.0)
    refused = CallFailed("UNAUTHENTICATED", "who are you")
    outbox.broken(refused, now_s=0.0)
    assert [promise.outcomes for promise in promises] == [[refused]] * 3


@pytest.mark.parametrize("results", [[], [DONE], [DONE] * 3])
def test_an_answer_of_another_size_is_an_error(results: list[Ingested]) -> None:
    outbox = Outbox(events_max=10)
    if results:
        _filled(outbox, 2)
        outbox.next_group(0.0)
    with pytest.raises(ValueError, match="fits no group"):
        outbox.answered(results, 0.0)


steps = st.lists(
    st.one_of(
        st.just(("add", [])),
        st.just(("send", [])),
        st.tuples(st.just("answer"), st.lists(st.sampled_from([DONE, DOWN, BAD]), min_size=3, max_size=3)),
        st.just(("break", [])),
    ),
    max_size=60,
)


@given(steps)
def test_whatever_happens_every_event_is_settled_once_and_none_is_lost(plan: list[tuple[str, list[object]]]) -> None:
    outbox = Outbox(events_max=1000, group_max=3)
    promises: list[Once] = []
    sent: list[list[pb.Event]] = []
    now_s = 0.0
    for kind, given_results in [*plan, *[("break", []), ("drain", [])]]:
        now_s += 10.0
        if kind == "add":
            promise = Once()
            outbox.add(Entry(pb.Event(event_id=str(len(promises))), promise, 1e9))
            promises.append(promise)
        elif kind == "send":
            if group := outbox.next_group(now_s):
                sent.append(group)
        elif kind == "answer" and sent:
            results = [given_results[n] for n in range(len(sent.pop(0)))]
            outbox.answered(results, now_s)  # type: ignore[arg-type]
        elif kind == "break":
            outbox.broken(CUT, now_s)
            sent.clear()
        elif kind == "drain":
            while group := outbox.next_group(now_s):
                outbox.answered([DONE] * len(group), now_s)
    assert len(outbox) == 0
    assert [len(promise.outcomes) for promise in promises] == [1] * len(promises)
