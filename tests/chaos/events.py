"""Events sent while something is broken, and what became of each of them.

An acknowledged event must be there, once, afterwards; every other one must have been UNAVAILABLE with a delay to retry
after. Sending all of them again settles both: what was acknowledged is a DUPLICATE then, and in the end the shopper's
count of events is their number.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from types import TracebackType

import msgspec

from recserv.client import CallFailed, ClientOptions, Ingested, RecommendationClient
from recserv.types import Event, EventType, IngestStatus, ShopperKey
from tests.patience import HANG_GUARD_S

PAUSE_S = 0.05
SETTLE_PAUSE_S = 0.1
SETTLE_ATTEMPTS = round(HANG_GUARD_S / SETTLE_PAUSE_S)


class EventsSent(msgspec.Struct, frozen=True):
    """`wrong`: sentences, none if every promise was kept."""

    sent: int
    acknowledged: int
    refused: Counter[str]
    wrong: list[str]


class _Shopper:
    """One timeline: its events in order, and what the server said of each at first."""

    def __init__(self, *, known_user: bool):
        self.session_id = uuid.uuid4().hex
        # With a user, an event is written in two partitions.
        self.user_id = f"user-{self.session_id}" if known_user else ""
        self.events: list[Event] = []
        self.said: list[Ingested | CallFailed] = []

    def next_event(self) -> Event:
        number = len(self.events)
        event = Event(
            event_id=f"{self.session_id}-{number}",
            event_type=EventType.ADD_TO_CART if number % 5 == 4 else EventType.VIEW,
            session_id=self.session_id,
            user_id=self.user_id,
            item_id=f"item-{number % 50}",
        )
        self.events.append(event)
        return event


class EventSender:
    """A context manager that sends an event every PAUSE_S, or as fast as the server answers; nothing is retried."""

    def __init__(self, target: str):
        self._target = target
        self._stop = threading.Event()
        self._shoppers = [_Shopper(known_user=False), _Shopper(known_user=True)]
        self._thread = threading.Thread(target=self._send, name="events")

    def __enter__(self) -> EventSender:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _send(self) -> None:
        options = ClientOptions(timeout_s=HANG_GUARD_S, attempts_max=1)
        with RecommendationClient(self._target, options=options) as client:
            while not self._stop.is_set():
                for shopper in self._shoppers:
                    event = shopper.next_event()
                    try:
                        shopper.said.append(client.ingest(event))
                    except CallFailed as failure:
                        shopper.said.append(failure)
                self._stop.wait(PAUSE_S)

    @property
    def refused(self) -> bool:
        """Whether an event was, so far."""
        return any(isinstance(said, CallFailed) for shopper in self._shoppers for said in shopper.said)

    def settle(self) -> EventsSent:
        """Sends everything again until it is stored, and compares. Call it when nothing is broken any more."""
        wrong: list[str] = []
        with RecommendationClient(self._target, timeout_s=HANG_GUARD_S) as client:
            for shopper in self._shoppers:
                wrong += [_wrongly_refused(said) for said in shopper.said if isinstance(said, CallFailed)]
                wrong += self._settle(client, shopper)
        said = [one for shopper in self._shoppers for one in shopper.said]
        refused = [one for one in said if isinstance(one, CallFailed)]
        return EventsSent(
            sent=len(said),
            acknowledged=len(said) - len(refused),
            refused=Counter(f"{one.code} {one.server_reason}".strip() for one in refused),
            wrong=[sentence for sentence in wrong if sentence],
        )

    def _settle(self, client: RecommendationClient, shopper: _Shopper) -> list[str]:
        again = self._stored_again(client, shopper.events)
        lost = [
            event.event_id
            for event, first, second in zip(shopper.events, shopper.said, again, strict=True)
            if isinstance(first, Ingested) and second is not IngestStatus.DUPLICATE
        ]
        wrong = [f"acknowledged, and not there afterwards: {lost}"] if lost else []
        count = self._count(client, ShopperKey(shopper.session_id, shopper.user_id))
        if count != len(shopper.events):
            wrong.append(f"{count} events stored of {len(shopper.events)} ids, each sent at least twice")
        return wrong

    def _count(self, client: RecommendationClient, shopper: ShopperKey) -> int:
        """Events stored of a shopper. Raises CallFailed if that cannot be read for too long."""
        for attempts_left in range(SETTLE_ATTEMPTS - 1, -1, -1):
            try:
                return client.context(shopper).event_count
            except CallFailed:
                # The store may be left alone for a moment more.
                if not attempts_left:
                    raise
                time.sleep(SETTLE_PAUSE_S)
        raise AssertionError

    def _stored_again(self, client: RecommendationClient, events: list[Event]) -> list[IngestStatus]:
        """What each event's first successful repetition was; UNSPECIFIED if there was none."""
        statuses: dict[str, IngestStatus] = {}
        for _ in range(SETTLE_ATTEMPTS):
            missing = [event for event in events if event.event_id not in statuses][:500]
            if not missing:
                break
            for event, result in zip(missing, client.ingest_batch(missing), strict=True):
                if isinstance(result, Ingested):
                    statuses[event.event_id] = result.status
            if any(event.event_id not in statuses for event in missing):
                time.sleep(SETTLE_PAUSE_S)
        return [statuses.get(event.event_id, IngestStatus.UNSPECIFIED) for event in events]


def _wrongly_refused(failure: CallFailed) -> str:
    if failure.code == "UNAVAILABLE" and failure.retry_after_s is not None:
        return ""
    return f"refused with {failure.code} ({failure.message}), retry after {failure.retry_after_s}"
