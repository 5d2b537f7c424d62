"""`recserv serve --workers N` as its users see it: processes, one port, one page of metrics."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import grpc
from prometheus_client.parser import text_string_to_metric_families

from recserv.commands.server_process import BANNER
from recserv.v1 import recommendation_pb2 as pb
from recserv.v1 import recommendation_pb2_grpc as pb_grpc

WAIT_S = 60.0
METRICS_BANNER = "recserv metrics on "
# What is tested here is not how fast a busy machine answers.
PATIENT = [
    "--recommend-budget-ms=60000",
    *(f"--redis-{what}-timeout-ms=10000" for what in ("connect", "read", "write")),
]
WORKER_KEY = "x-recserv-worker"


def eventually(true: Callable[[], object], what: str = "") -> None:
    """Waits for what other processes are about to do."""
    give_up_s = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < give_up_s, f"never happened: {what or true}"
        time.sleep(0.02)


class Fleet:
    """A running server of several workers."""

    def __init__(self, process: subprocess.Popen[str], target: str, metrics_url: str, log: IO[bytes]):
        self.process, self.target, self._metrics_url, self._log = process, target, metrics_url, log

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def loaders(self) -> list[int]:
        return children(self.pid)

    def workers(self) -> list[int]:
        return [pid for loader in self.loaders() for pid in children(loader)]

    def everybody(self) -> list[int]:
        return [self.pid, *self.loaders(), *self.workers()]

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read().decode("utf-8", "replace")

    def page(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """The page of metrics, by name and sorted labels."""
        with urllib.request.urlopen(self._metrics_url, timeout=10) as response:
            text = response.read().decode()
        families = text_string_to_metric_families(text)
        return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}

    def probe(self) -> int:
        """The status of /healthz."""
        try:
            with urllib.request.urlopen(self._metrics_url.replace("/metrics", "/healthz"), timeout=WAIT_S) as response:
                return int(response.status)
        except urllib.error.HTTPError as refused:
            return refused.code

    def metric(self, name: str, **labels: str) -> float:
        return self.page().get((name, tuple(sorted(labels.items()))), 0.0)

    def calls(self, rpc: str) -> float:
        """Finished calls of an RPC, over all workers."""
        return sum(value for (name, labels), value in self.page().items() if counts(name, labels, rpc))

    def models(self) -> set[str]:
        """Versions that are served."""
        return {dict(labels)["version"] for name, labels in self.page() if name == "recserv_model_info"}


def counts(name: str, labels: tuple[tuple[str, str], ...], rpc: str) -> bool:
    return name == "recserv_requests_total" and ("rpc", rpc) in labels


def children(pid: int) -> list[int]:
    found = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        # It ended while we looked.
        return []
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def fleet(model: Path, state: str, options: Sequence[str] = (), *, workers: int = 2) -> Iterator[Fleet]:
    """Starts it on a free port; what is left of it on leaving is killed."""
    listening = ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
    command = [sys.executable, "-m", "recserv", "serve", "--model", str(model), "--state", state]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*command, *listening, *PATIENT, "--workers", str(workers), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            target = process.stdout.readline()
            assert target.startswith(BANNER), Fleet(process, "", "", log).log()
            metrics = process.stdout.readline().removeprefix(METRICS_BANNER).strip()
            yield Fleet(process, target.removeprefix(BANNER).strip(), metrics, log)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


class Caller:
    """A connection of its own, and the worker at its other end."""

    def __init__(self, target: str):
        self._channel = grpc.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])
        self._stub = pb_grpc.RecommendationServiceStub(self._channel)

    def recommend(self, session: str = "s", timeout_s: float = 10.0) -> tuple[pb.RecommendResponse, str]:
        """The answer, and who gave it."""
        answer, call = self._stub.Recommend.with_call(pb.RecommendRequest(session_id=session), timeout=timeout_s)
        return answer, dict(call.trailing_metadata())[WORKER_KEY]

    def ingest(self, event: pb.Event, timeout_s: float = 10.0) -> tuple[pb.IngestEventResponse, str]:
        answer, call = self._stub.IngestEvent.with_call(pb.IngestEventRequest(event=event), timeout=timeout_s)
        return answer, dict(call.trailing_metadata())[WORKER_KEY]

    def close(self) -> None:
        self._channel.close()


@contextmanager
def callers(target: str, count: int) -> Iterator[list[Caller]]:
    made = [Caller(target) for _ in range(count)]
    try:
        yield made
    finally:
        for caller in made:
            caller.close()
