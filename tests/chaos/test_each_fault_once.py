"""The promises of the chaos suite in the small form that the gate runs: each fault once, and nothing is timed.

Calls are made one after the other until the answers tell of the fault, and after its end until they are whole again.
What answers at once is broken under a server with so much time that only the fault can degrade an answer: then no other
label may appear. What never answers needs a server that gives up: there a slow machine may add labels of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recserv.client import ClientOptions, RecommendationClient
from recserv.types import Event, EventType, RecommendQuery
from tests.chaos.chaotic_server import BREAKER_OPEN_S
from tests.chaos.events import EventSender
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.rig import Rig
from tests.patience import HANG_GUARD_S, PATIENT_SERVER, eventually

NEVER_ANSWERS = {"redis-latency", "redis-blackhole", "redis-1-byte-per-s", "redis-garbage", "redis-sigstop"} | {
    "index-hang",
    "ranker-hang",
}
STORE_PLACES = {"wire", "process"}
"""Here events are refused, whether answers suffer or not."""
CALLS_MIN = 12
"""More than a breaker needs to open."""
VIEWED = Event(event_id="v", event_type=EventType.VIEW, session_id="s", item_id="item-1")


@contextmanager
def rig_of(model: Path, folder: Path, options: list[str]) -> Iterator[Rig]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(BREAKER_OPEN_S, "0.1")
        with Rig.started(model, folder, options) as rig:
            yield rig


@pytest.fixture(scope="module")
def patient(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig_of(tiny_model, tmp_path_factory.mktemp("patient"), PATIENT_SERVER) as rig:
        yield rig


@pytest.fixture(scope="module")
def impatient(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig_of(tiny_model, tmp_path_factory.mktemp("impatient"), []) as rig:
        yield rig


class Asker:
    """Recommends for one session, call after call; remembers every label. A call that fails raises CallFailed."""

    def __init__(self, client: RecommendationClient):
        self._client = client
        self.calls = 0
        self.labels: set[str] = set()

    def degraded(self) -> set[str]:
        answer = self._client.recommend(RecommendQuery(session_id="asks", context_events=(VIEWED,)))
        assert answer.results
        self.calls += 1
        labels = {reason.name for reason in answer.degraded_reasons}
        self.labels |= labels
        return labels


def _told(fault: Fault, rig: Rig, asker: Asker, sender: EventSender) -> bool:
    """One more call; whether by now all that the fault must show was seen."""
    asker.degraded()
    seen = asker.calls >= CALLS_MIN and asker.labels >= fault.shows
    return seen and (sender.refused or fault.place not in STORE_PLACES) and _is_seen(fault, rig)


def _is_seen(fault: Fault, rig: Rig) -> bool:
    try:
        fault.afterwards(rig)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_no_call_fails_and_no_event_is_lost(fault: Fault, request: pytest.FixtureRequest) -> None:
    hangs = fault.name in NEVER_ANSWERS
    rig: Rig = request.getfixturevalue("impatient" if hangs else "patient")
    options = ClientOptions(timeout_s=HANG_GUARD_S, attempts_max=1)
    with RecommendationClient(rig.server.target, options=options) as client:
        asker = Asker(client)
        eventually(lambda: not asker.degraded(), "a whole answer before the fault")
        asker.calls = 0
        asker.labels.clear()
        with EventSender(rig.server.target) as sender:
            fault.begin(rig)
            try:
                eventually(lambda: _told(fault, rig, asker, sender), "everything that the fault must show")
            finally:
                fault.end(rig)
            eventually(lambda: not asker.degraded(), "a whole answer after the fault")
        events = sender.settle()
    assert hangs or asker.labels <= fault.labels
    assert events.wrong == []
    assert events.sent >= 2
    assert rig.server.alive()
