"""Real servers that restart under load: no call fails, no acknowledged event is lost."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from recserv.app.server_process import ServerProcess
from recserv.client import ClientOptions, RecommendationClient
from recserv.types import Event, EventType, IngestStatus, RecommendQuery, ShopperKey
from tests.patience import HANG_GUARD_S, PATIENT_SERVER, eventually
from tests.proxy import TcpProxy

pytestmark = pytest.mark.slow
CALLERS = 3


class Load:
    """Callers that ingest and recommend in turns until told to stop. Errors end a caller and are kept."""

    def __init__(self, client: RecommendationClient, *, ingest: bool = True):
        self._client, self._ingest = client, ingest
        self._stop = threading.Event()
        self.acknowledged: dict[str, int] = {}
        self.answers = 0
        self.errors: list[Exception] = []
        self._threads = [threading.Thread(target=self._call, args=(uuid.uuid4().hex,)) for _ in range(CALLERS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self, session: str) -> None:
        try:
            while not self._stop.is_set():
                if self._ingest:
                    number = self.acknowledged.get(session, 0)
                    event = Event(event_id=str(number), event_type=EventType.VIEW, session_id=session, item_id="item-1")
                    assert self._client.ingest(event).status in (IngestStatus.ACCEPTED, IngestStatus.DUPLICATE)
                    self.acknowledged[session] = number + 1
                assert self._client.recommend(RecommendQuery(session_id=session)).results
                self.answers += 1
                self._stop.wait(0.005)
        except Exception as error:
            self.errors.append(error)

    def goes_on(self, calls: int = 30) -> None:
        """Returns once so many more calls have been answered."""
        wanted = self.answers + calls
        eventually(lambda: self.answers >= wanted or self.errors, f"{calls} more calls are answered")


@pytest.fixture
def start(tiny_model: Path) -> Iterator[Callable[[Path], ServerProcess]]:
    with ExitStack() as stack:
        yield lambda state: stack.enter_context(ServerProcess.started(tiny_model, state, PATIENT_SERVER))


def test_one_of_two_servers_after_the_other_restarts_and_no_call_fails(
    start: Callable[[Path], ServerProcess], tmp_path: Path
) -> None:
    servers = [start(tmp_path / "0.db"), start(tmp_path / "1.db")]
    with ExitStack() as stack:
        proxies = [stack.enter_context(TcpProxy("127.0.0.1", _port(server))) for server in servers]
        targets = [proxy.address for proxy in proxies]
        client = stack.enter_context(RecommendationClient(targets, options=ClientOptions(timeout_s=HANG_GUARD_S)))
        # Each server has a state of its own: what one has acknowledged the other does not know.
        load = stack.enter_context(Load(client, ingest=False))
        for number, proxy in enumerate(proxies):
            load.goes_on()
            servers[number].stop()
            proxy.set(refuse=True)
            load.goes_on()
            servers[number] = start(tmp_path / f"{number}.db")
            proxy.redirect("127.0.0.1", _port(servers[number]))
            # A rollout goes on once the new one is ready, and the client looks again within a second.
            _heal_until_used(proxy)
            load.goes_on()
        assert all(proxy.counts().connections > 1 for proxy in proxies)
    assert load.errors == []


def test_a_lone_server_restarts_and_calls_that_may_wait_for_it_do(
    start: Callable[[Path], ServerProcess], tmp_path: Path
) -> None:
    state = tmp_path / "state.db"
    server = start(state)
    options = ClientOptions(timeout_s=HANG_GUARD_S, wait_for_ready=True)
    with TcpProxy("127.0.0.1", _port(server)) as proxy, RecommendationClient(proxy.address, options=options) as client:
        with Load(client) as load:
            load.goes_on()
            # The old one drains while calls come in, and only then stops listening.
            server.stop()
            proxy.set(refuse=True)
            server = start(state)
            proxy.redirect("127.0.0.1", _port(server))
            proxy.heal()
            load.goes_on()
        assert load.errors == []
        counts = {session: client.context(ShopperKey(session_id=session)).event_count for session in load.acknowledged}
    assert all(count >= load.acknowledged[session] for session, count in counts.items())
    # At most the one event that a caller was sending when it was told to stop.
    assert all(count <= load.acknowledged[session] + 1 for session, count in counts.items())


def _heal_until_used(proxy: TcpProxy) -> None:
    before = proxy.counts().reply_bytes
    proxy.heal()
    eventually(lambda: proxy.counts().reply_bytes > before, "the client has found the new server")


def _port(server: ServerProcess) -> int:
    return int(server.target.rpartition(":")[2])
