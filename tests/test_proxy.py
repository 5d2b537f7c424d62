"""The proxy itself, in front of a server that echoes lines, a Redis, an HTTP and a gRPC server."""

from __future__ import annotations

import socket
import socketserver
import threading
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
import redis

from recserv.client import RecommendationClient
from recserv.types import RecommendQuery
from tests.patience import HANG_GUARD_S, eventually
from tests.proxy import TcpProxy
from tests.redis_server import RedisServer
from tests.server.harness import StillClock

if TYPE_CHECKING:
    from recserv.app.server_process import ServerProcess

SHORT_S = 0.05
"""For what is not to come, once the proxy has had it."""
LATENCY_S = 2 * HANG_GUARD_S


class _Echo(socketserver.StreamRequestHandler):
    seen: list[bytes]

    def handle(self) -> None:
        for line in self.rfile:
            self.seen.append(line)
            self.wfile.write(line)


class NotingProxy(TcpProxy):
    """Its clock stands still, and it notes for how long it pauses."""

    def __init__(self, host: str, port: int):
        self.still, self.pauses_s = StillClock(), list[float | None]()
        super().__init__(host, port, clock=self.still)

    async def pause(self, seconds: float | None = None) -> None:
        self.pauses_s.append(seconds)
        await super().pause(seconds)


@pytest.fixture
def seen() -> list[bytes]:
    return []


@pytest.fixture
def proxy(seen: list[bytes]) -> Iterator[NotingProxy]:
    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    handler = type("Handler", (_Echo,), {"seen": seen})
    with Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with NotingProxy(*server.server_address) as started:
            yield started
        server.shutdown()
        thread.join()


class _Caller:
    def __init__(self, proxy: TcpProxy, timeout_s: float = HANG_GUARD_S):
        self.socket = socket.create_connection((proxy.host, proxy.port), timeout_s)

    def __enter__(self) -> _Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, line: bytes) -> None:
        self.socket.sendall(line)

    def receive(self, size: int, timeout_s: float = HANG_GUARD_S) -> bytes:
        """So many bytes, or what came before the end. Raises TimeoutError or ConnectionResetError."""
        self.socket.settimeout(timeout_s)
        got = b""
        while len(got) < size and (more := self.socket.recv(size - len(got))):
            got += more
        return got

    def echo(self, line: bytes) -> bytes:
        self.send(line)
        return self.receive(len(line))


def test_without_faults_everything_passes_and_is_counted(proxy: TcpProxy) -> None:
    long = b"x" * 300_000 + b"\n"
    with _Caller(proxy) as one, _Caller(proxy) as other:
        assert one.echo(b"hello\n") == b"hello\n"
        assert other.echo(long) == long
        assert one.echo(b"again\n") == b"again\n"
        counts = proxy.counts()
    assert (counts.connections, counts.cut) == (2, 0)
    assert counts.request_bytes == counts.reply_bytes == len(long) + 12
    # The long line comes in pieces; its echo begins only after its end.
    assert counts.request_batches == counts.reply_batches == 3


def test_the_end_of_one_side_reaches_the_other(proxy: TcpProxy) -> None:
    with _Caller(proxy) as caller:
        assert caller.echo(b"a\n") == b"a\n"
        caller.socket.shutdown(socket.SHUT_WR)
        assert caller.receive(1) == b""


def test_latency_delays_replies_and_those_held_back_flow_when_it_ends(proxy: NotingProxy) -> None:
    with _Caller(proxy) as caller:
        with proxy.broken(latency_s=LATENCY_S, jitter_s=1.0):
            caller.send(b"a\n")
            eventually(lambda: proxy.counts().reply_bytes == 2)
            proxy.still.now_s = LATENCY_S - 0.1
            proxy.set(latency_s=LATENCY_S, jitter_s=1.0)
            with pytest.raises(TimeoutError):
                caller.receive(2, SHORT_S)
            proxy.still.now_s = LATENCY_S + 1.0
            proxy.set(latency_s=LATENCY_S, jitter_s=1.0)
            assert caller.receive(2) == b"a\n"
        with proxy.broken(latency_s=LATENCY_S):
            caller.send(b"b\n")
            eventually(lambda: proxy.counts().reply_bytes == 4)
            with pytest.raises(TimeoutError):
                caller.receive(2, SHORT_S)
        assert caller.receive(2) == b"b\n"


def test_a_blackhole_swallows_both_ways_and_what_was_sent_arrives_after_it(proxy: TcpProxy, seen: list[bytes]) -> None:
    with _Caller(proxy) as caller:
        assert caller.echo(b"a\n") == b"a\n"
        with proxy.broken(blackhole=True), _Caller(proxy) as late:
            caller.send(b"b\n")
            late.send(b"c\n")
            eventually(lambda: proxy.counts().request_bytes == 6)
            for one in (caller, late):
                with pytest.raises(TimeoutError):
                    one.receive(2, SHORT_S)
            assert seen == [b"a\n"]
        assert caller.receive(2) == b"b\n"


def test_a_reset_hits_open_connections_and_new_ones(proxy: TcpProxy) -> None:
    with _Caller(proxy) as caller:
        assert caller.echo(b"a\n") == b"a\n"
        with proxy.broken(reset=True):
            with pytest.raises(ConnectionResetError):
                caller.receive(1)
            with pytest.raises(ConnectionError), _Caller(proxy) as new:
                new.receive(1)
    with _Caller(proxy) as after:
        assert after.echo(b"c\n") == b"c\n"


def test_a_reply_that_is_cut_was_carried_out(proxy: TcpProxy, seen: list[bytes]) -> None:
    with proxy.broken(cut_every=2, cut_keeps=0.5):
        with _Caller(proxy) as caller:
            assert caller.echo(b"first\n") == b"first\n"
            assert caller.echo(b"second\n") == b"sec"
        with _Caller(proxy) as caller:
            assert caller.echo(b"third\n") == b"third\n"
    with _Caller(proxy) as caller, proxy.broken(cut_every=1, cut_keeps=0.0):
        assert caller.echo(b"fourth\n") == b""
    assert seen == [b"first\n", b"second\n", b"third\n", b"fourth\n"]
    assert proxy.counts().cut == 2


def test_a_slow_wire_passes_byte_by_byte_and_at_once_when_it_ends(proxy: NotingProxy) -> None:
    with _Caller(proxy) as caller:
        with proxy.broken(bytes_per_s=200.0):
            assert caller.echo(b"ab\n") == b"ab\n"
            # After each byte of either way.
            eventually(lambda: proxy.pauses_s == 6 * [1 / 200])
        with proxy.broken(bytes_per_s=1 / LATENCY_S):
            caller.send(b"cdefgh\n")
            eventually(lambda: proxy.counts().request_bytes == 10)
            with pytest.raises(TimeoutError):
                caller.receive(1, SHORT_S)
        assert caller.receive(7) == b"cdefgh\n"


def test_garbage_has_the_length_of_the_reply_and_nothing_else_of_it(proxy: TcpProxy, seen: list[bytes]) -> None:
    line = b"x" * 50 + b"\n"
    with _Caller(proxy) as caller:
        with proxy.broken(garbage=True):
            noise = caller.echo(line)
            assert len(noise) == len(line)
            assert noise != line
        assert caller.echo(b"a\n") == b"a\n"
    assert seen == [line, b"a\n"]


def test_refused_connections_come_back_on_the_same_port(proxy: TcpProxy) -> None:
    with _Caller(proxy) as open_before:
        assert open_before.echo(b"o\n") == b"o\n"
        with proxy.broken(refuse=True):
            with pytest.raises(ConnectionRefusedError):
                _Caller(proxy)
            assert open_before.echo(b"a\n") == b"a\n"
        with _Caller(proxy) as after:
            assert after.echo(b"b\n") == b"b\n"


def test_an_upstream_that_is_not_there_resets_the_client() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with (
            TcpProxy(*nobody.getsockname()) as proxy,
            pytest.raises(ConnectionResetError),
            _Caller(proxy) as caller,
        ):
            caller.receive(1)


def test_connections_can_be_dropped_without_a_lasting_fault(proxy: TcpProxy) -> None:
    with _Caller(proxy) as caller:
        assert caller.echo(b"a\n") == b"a\n"
        assert proxy.open_connections() == 1
        proxy.drop_connections()
        with pytest.raises(ConnectionResetError):
            caller.receive(1)
    with _Caller(proxy) as after:
        assert after.echo(b"b\n") == b"b\n"


def test_a_fault_that_is_not_known_is_an_error(proxy: TcpProxy) -> None:
    with pytest.raises(TypeError):
        proxy.set(blackhol=True)


def test_in_front_of_redis_a_cut_reply_hides_a_write_that_was_made(redis_server: RedisServer) -> None:
    with (
        TcpProxy(redis_server.host, redis_server.port) as proxy,
        redis.Redis(proxy.host, proxy.port, retry=None, socket_timeout=HANG_GUARD_S) as through,
        redis_server.client() as direct,
    ):
        assert through.incr("n") == 1
        before = proxy.counts().request_batches
        with through.pipeline(transaction=False) as pipeline:
            pipeline.incr("n")
            pipeline.incr("n")
            pipeline.execute()
        assert proxy.counts().request_batches == before + 1
        with proxy.broken(cut_every=1), pytest.raises(redis.ConnectionError):
            through.incr("n")
        assert direct.get("n") == "4"


def test_in_front_of_an_http_server_garbage_is_no_answer() -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with TcpProxy("127.0.0.1", server.server_port) as proxy:
            url = f"http://{proxy.address}/"
            with urllib.request.urlopen(url, timeout=HANG_GUARD_S) as answer:
                assert answer.read() == b"ok"
            with proxy.broken(garbage=True), pytest.raises(HTTPException):
                urllib.request.urlopen(url, timeout=HANG_GUARD_S).read()
        server.shutdown()
        thread.join()


def test_in_front_of_the_grpc_server_calls_pass(recserv_server: ServerProcess) -> None:
    host, _, port = recserv_server.target.rpartition(":")
    with TcpProxy(host, int(port)) as proxy, RecommendationClient(proxy.address, timeout_s=HANG_GUARD_S) as client:
        assert client.recommend(RecommendQuery(session_id="s")).results
        assert proxy.counts().connections == 1
