"""`recserv serve --workers N` as its users see it: processes, one port, one page of metrics."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import grpc
from prometheus_client.parser import text_string_to_metric_families

from recserv import v1 as pb
from recserv.app.server_process import BANNER
from recserv.client.options import ClientOptions, channel_options
from tests.patience import HANG_GUARD_S, PATIENT_SERVER

METRICS_BANNER = "recserv metrics on "
WORKER_KEY = "x-recserv-worker"
# What gRPC tries again below a call: one that met a worker which was about to end.
ASK_AGAIN = channel_options(ClientOptions())


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
        with urllib.request.urlopen(self._metrics_url, timeout=HANG_GUARD_S) as response:
            text = response.read().decode()
        families = text_string_to_metric_families(text)
        return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}

    def probe(self) -> int:
        """The status of /healthz."""
        try:
            with urllib.request.urlopen(
                self._metrics_url.replace("/metrics", "/healthz"), timeout=HANG_GUARD_S
            ) as response:
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
            [*command, *listening, *PATIENT_SERVER, "--workers", str(workers), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        try:
            target, metrics = announced(process)
            assert target.startswith(BANNER), Fleet(process, "", "", log).log()
            metrics_url = metrics.removeprefix(METRICS_BANNER).strip()
            yield Fleet(process, target.removeprefix(BANNER).strip(), metrics_url, log)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(HANG_GUARD_S)
            assert process.stdout is not None
            process.stdout.close()


def announced(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Its lines that say where it serves and where it tells its metrics; empty if it ends before, as it is made to."""
    guard = threading.Timer(HANG_GUARD_S, os.killpg, (process.pid, signal.SIGKILL))
    guard.start()
    try:
        assert process.stdout is not None
        return process.stdout.readline(), process.stdout.readline()
    finally:
        guard.cancel()


class Caller:
    """A connection of its own, and the worker at its other end."""

    def __init__(self, target: str):
        self._channel = grpc.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1), *ASK_AGAIN])
        self._stub = pb.RecommendationServiceStub(self._channel)

    def recommend(self, session: str = "s") -> tuple[pb.RecommendResponse, str]:
        """The answer, and who gave it."""
        answer, call = self._stub.Recommend.with_call(pb.RecommendRequest(session_id=session), timeout=HANG_GUARD_S)
        return answer, dict(call.trailing_metadata())[WORKER_KEY]

    def ingest(self, event: pb.Event) -> tuple[pb.IngestEventResponse, str]:
        answer, call = self._stub.IngestEvent.with_call(pb.IngestEventRequest(event=event), timeout=HANG_GUARD_S)
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
