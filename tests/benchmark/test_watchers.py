"""A thousand readers of /api/v1/watch on one gateway: each sees its change, and what each costs the gateway. One that
reads nothing costs it a message.

In front of a server that keeps the contract (tests/watches.py), or of one that runs: RECSERV_WATCH_TARGET=HOST:PORT,
with `--max-streams` above the number of readers.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from recserv.client import RecommendationClient
from recserv.types import Event, EventType
from tests.gateway.test_process import started
from tests.patience import HANG_GUARD_S, eventually
from tests.processes import read_line
from tests.watches import fake_watches

pytestmark = pytest.mark.benchmark
READERS, ROUNDS, EVENTS_PER_S = 1_000, 2, 100
"""Each round is a longer list of the server that only keeps the contract, up to its LIST_MAX."""
CHANGE_S_MAX = 1.0
OPENING_AT_ONCE = 50


class Reader:
    """One shopper's page. `seen_s`: when its last event came."""

    def __init__(self, session_id: str):
        self.session_id = session_id
        self.events, self.seen_s, self.first_item = 0, 0.0, ""
        self.changed = asyncio.Event()

    async def read(self, host: str, port: int, opened: asyncio.Semaphore) -> None:
        """Until the stream ends, which is an error here."""
        async with opened:
            source, sink = await asyncio.open_connection(host, port)
            query = f"session_id={self.session_id}&page_size=10&exclude_purchased=true"
            sink.write(f"GET /api/v1/watch?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await self._next(source)
        while True:
            await self._next(source)

    async def _next(self, source: asyncio.StreamReader) -> None:
        name = ""
        while line := await source.readline():
            if line.startswith(b"event: "):
                name = line[7:].decode().strip()
            elif line.startswith(b"data: "):
                assert name == "recommendations", line
                self.seen_s = time.perf_counter()
                self.first_item = json.loads(line[6:])["response"]["results"][0]["itemId"]
                self.events += 1
                self.changed.set()
                return
        raise AssertionError(f"the stream of {self.session_id} ended")


@contextmanager
def target() -> Iterator[str]:
    if "RECSERV_WATCH_TARGET" in os.environ:
        yield os.environ["RECSERV_WATCH_TARGET"]
        return
    with subprocess.Popen([sys.executable, "-m", "tests.watches"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield read_line(process.stdout).strip()
        finally:
            process.kill()


def memory_kib(process: subprocess.Popen[Any]) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


async def change_all(readers: list[Reader], client: RecommendationClient) -> list[float]:
    """A purchase of the first item of each list, EVENTS_PER_S a second: the item leaves the list. Seconds from each
    acknowledgement to the event.
    """
    loop, took = asyncio.get_running_loop(), []

    async def change(reader: Reader, at_s: float) -> None:
        await asyncio.sleep(max(0.0, at_s - loop.time()))
        event = Event(
            event_id=uuid.uuid4().hex,
            event_type=EventType.PURCHASE,
            session_id=reader.session_id,
            item_id=reader.first_item,
        )
        reader.changed.clear()
        await asyncio.to_thread(client.ingest, event)
        acknowledged_s = time.perf_counter()
        async with asyncio.timeout(HANG_GUARD_S):
            await reader.changed.wait()
        took.append(max(0.0, reader.seen_s - acknowledged_s))

    began_s = loop.time()
    async with asyncio.TaskGroup() as tasks:
        for number, reader in enumerate(readers):
            tasks.create_task(change(reader, began_s + number / EVENTS_PER_S))
    return took


async def measure(address: str, gateway: subprocess.Popen[Any], client: RecommendationClient) -> list[float]:
    host, _, port = address.removeprefix("http://").partition(":")
    run = uuid.uuid4().hex[:8]
    readers = [Reader(f"watcher-{run}-{number}") for number in range(READERS)]
    opened, before_kib = asyncio.Semaphore(OPENING_AT_ONCE), memory_kib(gateway)
    reading = [asyncio.create_task(reader.read(host, int(port), opened)) for reader in readers]
    async with asyncio.timeout(2 * HANG_GUARD_S):
        for reader in readers:
            await reader.changed.wait()
    open_kib = memory_kib(gateway)
    took: list[float] = []
    for _ in range(ROUNDS):
        took += await change_all(readers, client)
    after_kib = memory_kib(gateway)
    ended = [task for task in reading if task.done()]
    for task in reading:
        task.cancel()
    await asyncio.gather(*reading, return_exceptions=True)
    print(f"\n{READERS} readers: the gateway has {before_kib} KiB before, {open_kib} with them, {after_kib} at the end")
    print(f"a reader takes {(open_kib - before_kib) / READERS:.1f} KiB of it, after {ROUNDS} changes", end=" ")
    print(f"{(after_kib - before_kib) / READERS:.1f} KiB")
    assert ended == []
    assert [reader.session_id for reader in readers if reader.events <= ROUNDS] == []
    return took


def test_each_of_a_thousand_readers_sees_its_change() -> None:
    with ExitStack() as stack:
        server = stack.enter_context(target())
        gateway, address = stack.enter_context(started("--target", server, f"--max-watches={READERS}"))
        client = stack.enter_context(RecommendationClient(server, timeout_s=HANG_GUARD_S))
        took = asyncio.run(measure(address, gateway, client))
    p50, p99, most = np.percentile(took, [50, 99, 100])
    print(
        f"{EVENTS_PER_S} events/s: change seen after {p50 * 1e3:.1f} ms (p50), {p99 * 1e3:.1f} (p99), {most * 1e3:.1f}"
    )
    assert len(took) == READERS * ROUNDS
    assert p99 < CHANGE_S_MAX


CHANGES, MESSAGE_BYTES = 80, 1_000_000


def test_a_reader_that_reads_nothing_costs_a_message_and_holds_up_nobody() -> None:
    with ExitStack() as stack:
        fake = stack.enter_context(fake_watches())
        gateway, address = stack.enter_context(started("--target", fake.address))
        where = (address.removeprefix("http://").partition(":")[0], int(address.rpartition(":")[2]))
        slow = stack.enter_context(socket.create_connection(where, HANG_GUARD_S))
        slow.sendall(b"GET /api/v1/watch?session_id=slow HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: fake.answers == 1)
        before_kib, peak_kib = memory_kib(gateway), 0
        with httpx.Client(base_url=address, trust_env=False, timeout=HANG_GUARD_S) as http:
            lines = stack.enter_context(http.stream("GET", "/api/v1/watch?session_id=quick")).iter_lines()
            for number in range(CHANGES):
                fake.change("slow", f"{number}-" + "x" * MESSAGE_BYTES)
                fake.change("quick", str(number))
                # Or this reader's answer came in between.
                assert next(line for line in lines if line.startswith("data: ") and f'"{number}"' in line)
                peak_kib = max(peak_kib, memory_kib(gateway))
        # Its own answers: the rest is the other reader's, whose first list may be one more.
        taken = fake.answers - CHANGES - 1
        print(f"\n{taken} of {CHANGES} answers of up to 3 MB taken; the gateway grew by {peak_kib - before_kib} KiB")
        assert taken < CHANGES / 2
        newest = f'"itemId":"{CHANGES - 1}-'.encode()
        kept = b""
        while newest not in kept:
            kept = kept[-len(newest) :] + slow.recv(1 << 20)
