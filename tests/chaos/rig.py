"""The rig of the chaos suite: everything is a process of its own, as in production.

    load (recserv.bench)  ->  server (chaotic_server, index and ranker breakable)  ->  proxy  ->  Redis
    events (recserv.client, a thread of the test's)  ->  the same server

One rig serves all faults of a run. After each fault the server must be as good as new, so the next one starts clean.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import msgspec
import redis

from recserv.app.server_process import BANNER
from recserv.bench.load import LoadMaker, LoadOptions
from recserv.bench.requests import bodies, made_up_prefixes
from recserv.bench.worker import Sample
from recserv.client import RecommendationClient
from tests.chaos.chaotic_server import DONE
from tests.chaos.events import EventSender, EventsSent
from tests.chaos.machine import OTHERS_CORES_MAX, Others
from tests.chaos.measure import NORMAL_AGAIN_S_MAX, NORMAL_SPAN_S, Outcome, normal_after_s, outcome_of, timeline
from tests.patience import HANG_GUARD_S
from tests.project_files import ROOT
from tests.proxy import TcpProxy
from tests.redis_server import RedisServer

RATE_PER_S = 50.0
CLIENT_DEADLINE_S = 1.0
BEFORE_S = 0.7
AFTER_S = 0.5
LOOK_S = 1.5


class ChaoticServer:
    """The server's process, and the line by which its parts are broken."""

    def __init__(self, process: subprocess.Popen[str], target: str, log: Path):
        self._process, self.target, self._log = process, target, log

    def break_parts(self, **faults: object) -> None:
        """See broken_parts.Faults. In force on return."""
        assert self._process.stdin is not None
        line = json.dumps(faults)
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        self._expect(DONE + line)

    def _expect(self, line: str) -> None:
        assert self._process.stdout is not None
        while (got := self._process.stdout.readline()).strip() != line:
            assert got, f"the server ended:\n{self.log()[-3000:]}"

    def hang_up(self) -> None:
        self._process.send_signal(signal.SIGHUP)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def alive(self) -> bool:
        return self._process.poll() is None


@contextmanager
def chaotic_server(model: Path, state: str, log: Path, options: Sequence[str] = ()) -> Iterator[ChaoticServer]:
    """Leaving asks it to end, and wants exit code 0."""
    where = ["--model", str(model), "--state", state, "--listen", "127.0.0.1:0", "--metrics-listen", "off"]
    command = [sys.executable, "-m", "tests.chaos.chaotic_server", *where, *options]
    with log.open("ab") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(BANNER), log.read_text(errors="replace")
        yield ChaoticServer(process, line.removeprefix(BANNER).strip(), log)
        process.terminate()
        assert process.wait(HANG_GUARD_S) == 0, log.read_text(errors="replace")[-3000:]
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


STALL_MS = 50
"""Reads may take 80 ms of a budget of 200: of ten that meet such a stall some do not make it."""


def watch_stalls(server: RedisServer) -> None:
    with contextlib.suppress(redis.RedisError), server.client() as client:
        client.config_set("latency-monitor-threshold", STALL_MS)
        client.execute_command("LATENCY", "RESET")


def stalled_ms(server: RedisServer) -> int:
    """The longest that Redis itself noticed since: it waits for the disk, or forks. Not what a fault makes it do."""
    try:
        with server.client() as client:
            events = client.execute_command("LATENCY", "LATEST")
    except redis.RedisError:
        return 0
    return longest_stall_ms(events)


def longest_stall_ms(events: Sequence[tuple[str, int, int, int]]) -> int:
    """Of an answer to LATENCY LATEST: (name, when, latest, longest). `command` and its like are what a fault may do."""
    return max((longest for name, _, _, longest in events if name.startswith(("aof-", "fork"))), default=0)


@contextmanager
def no_collection() -> Iterator[None]:
    """The proxy is threads of this process: a collection of all that a session of pytest has gathered holds them up for
    150 ms and more, and the server rightly takes that for a Redis that is silent.
    """
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Breakable(Protocol):
    """What a run breaks and mends; see `faults`."""

    @property
    def begin(self) -> Callable[[Rig], None]: ...

    @property
    def end(self) -> Callable[[Rig], None]: ...


class Result(msgspec.Struct, frozen=True):
    """What one run under a fault showed of the recommendations and of the events; how many processors were kept busy by
    somebody else, and how long Redis says that it was held up by the disk or by a fork (0 if it ended meanwhile).
    """

    outcome: Outcome
    events: EventsSent
    timeline: list[str]
    others_cores: float
    redis_stalled_ms: int = 0

    @property
    def disturbed(self) -> bool:
        """By what the run did not do: then a latency, or a label, says nothing of the server."""
        return self.others_cores > OTHERS_CORES_MAX or self.redis_stalled_ms >= STALL_MS


class Rig:
    def __init__(self, redis: RedisServer, proxy: TcpProxy, server: ChaoticServer, maker: LoadMaker, model: Path):
        self.redis, self.proxy, self.server, self.model = redis, proxy, server, model
        self.broken_parts: dict[str, object] = {}
        self.refused_before = 0
        self._maker = maker
        self._threads = ThreadPoolExecutor(1)
        with RecommendationClient(server.target, timeout_s=HANG_GUARD_S) as client:
            self._bodies = bodies(made_up_prefixes(client, count=200))

    @classmethod
    @contextmanager
    def started(cls, model: Path, folder: Path, options: Sequence[str] = ()) -> Iterator[Rig]:
        with ExitStack() as stack:
            (folder / "redis").mkdir()
            redis = RedisServer(folder / "redis")
            redis.start()
            stack.callback(redis.close)
            proxy = stack.enter_context(TcpProxy(redis.host, redis.port))
            own_model = Path(shutil.copytree(model, folder / "model"))
            log = folder / "server.log"
            state = f"redis://{proxy.address}/0"
            server = stack.enter_context(chaotic_server(own_model, state, log, ("--model-watch-ms", "0", *options)))
            maker = stack.enter_context(LoadMaker(1))
            rig = cls(redis, proxy, server, maker, own_model)
            stack.callback(rig._threads.shutdown)
            yield rig

    def run(self, faults: Sequence[Breakable], fault_s: float) -> Result:
        """Load and events before, during and after the faults, until the answers are whole again or long enough to say
        that they will not be. The load runs while the faults begin and end.
        """
        with no_collection():
            return self._run(faults, fault_s)

    def _run(self, faults: Sequence[Breakable], fault_s: float) -> Result:
        others = Others()
        watch_stalls(self.redis)
        with EventSender(self.server.target) as sender:
            load = self._threads.submit(self._load, BEFORE_S + fault_s + AFTER_S)
            time.sleep(BEFORE_S)
            began_s = time.monotonic()
            with ExitStack() as mended:
                for fault in faults:
                    mended.callback(fault.end, self)
                    fault.begin(self)
                time.sleep(max(0.0, began_s + fault_s - time.monotonic()))
                ended_s = time.monotonic()
            samples = load.result()
            give_up_s = ended_s + NORMAL_AGAIN_S_MAX + 2 * NORMAL_SPAN_S
            while not normal_after_s(samples, ended_s) >= 0 and time.monotonic() < give_up_s:
                samples += self._load(LOOK_S)
        others_cores = others.cores()
        outcome = outcome_of(samples, began_s, ended_s)
        return Result(outcome, sender.settle(), timeline(samples, began_s), others_cores, stalled_ms(self.redis))

    def _load(self, duration_s: float) -> list[Sample]:
        options = LoadOptions(
            target=self.server.target,
            bodies=self._bodies,
            requests=round(RATE_PER_S * duration_s),
            duration_s=duration_s,
            warmup=0,
            concurrency=round(RATE_PER_S * CLIENT_DEADLINE_S * 2),
            connections=2,
            rate_per_s=RATE_PER_S,
            timeout_s=CLIENT_DEADLINE_S,
            samples=True,
        )
        return list(self._maker.run(options).samples)


def corrupt_copy(model: Path, to: Path) -> None:
    """The same directory with one byte of its largest file turned over."""
    shutil.copytree(model, to)
    largest = max((path for path in to.iterdir() if path.is_file()), key=lambda path: path.stat().st_size)
    os.chmod(largest, 0o644)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 0xFF
    largest.write_bytes(data)
