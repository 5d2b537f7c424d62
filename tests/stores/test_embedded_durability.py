from __future__ import annotations

import random
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from recserv.stores.embedded import EmbeddedStore
from tests.processes import read_line
from tests.project_files import ROOT
from tests.stores.tracing import (
    TRACERS,
    Step,
    acknowledged,
    acknowledgements,
    false_acknowledgements,
    parse_strace,
    python,
    trace,
)

CHILD = "tests.stores.acknowledging_child"
GROUP_EVENTS = 20
LINES_MAX = 300


@pytest.mark.parametrize("tracer", sorted(TRACERS))
@pytest.mark.parametrize("group", [1, 10])
def test_an_event_is_synced_before_it_is_acknowledged(tracer: str, group: int, tmp_path: Path) -> None:
    steps = trace(TRACERS[tracer], python(CHILD, str(tmp_path / "state.db"), "e", "30", str(group), "FULL"), tmp_path)
    assert acknowledged(steps) == [f"e-{number}" for number in range(30)]
    assert false_acknowledgements(steps) == []


@pytest.mark.parametrize("tracer", sorted(TRACERS))
def test_the_same_check_fails_once_syncing_is_lowered(tracer: str, tmp_path: Path) -> None:
    steps = trace(TRACERS[tracer], python(CHILD, str(tmp_path / "state.db"), "e", "30", "1", "NORMAL"), tmp_path)
    assert len(acknowledged(steps)) == 30
    assert len(false_acknowledgements(steps)) >= 28


def test_the_check_wants_a_sync_of_the_same_file_between_write_and_acknowledgement() -> None:
    write, ack = Step("write", 5, "e"), Step("write", 1, "ack e")
    begin, end = Step("sync-begin", 5), Step("sync-end", 5)
    elsewhere = [Step("sync-begin", 6), Step("sync-end", 6)]
    assert false_acknowledgements([write, begin, end, ack]) == []
    for steps in ([write, begin, ack, end], [begin, write, end, ack], [write, *elsewhere, ack], [begin, end, ack]):
        assert false_acknowledgements(steps) == ["e"]


def test_what_is_sent_is_an_acknowledgement_if_it_holds_the_text_of_one() -> None:
    write, begin, end = Step("write", 5, "e"), Step("sync-begin", 5), Step("sync-end", 5)
    other, ack, later = Step("send", 9, "..tokens.."), Step("send", 9, "..token-e.."), Step("write", 5, "e")
    # The event's page is written once more, with an event that is not synced yet.
    assert acknowledgements([write, begin, end, other, later, ack, ack], {"e": "token-e"}) == [("e", True)]
    assert acknowledgements([write, begin, ack, end], {"e": "token-e"}) == [("e", False)]
    assert acknowledgements([write, begin, end, other], {"e": "token-e"}) == []


def test_calls_that_strace_splits_are_put_together() -> None:
    lines = [
        '7 pwrite64(5, "..<<e>>..", 9, 0) = 9',
        "7 fdatasync(5 <unfinished ...>",
        '8 write(1, "<<ack d>>", 9) = 9',
        "7 <... fdatasync resumed>) = 0",
        "7 fsync(6) = -1 EIO (Input/output error)",
        '8 sendmsg(9, {msg_iov=[{iov_base="..token..", iov_len=9}]}, 0 <unfinished ...>',
    ]
    assert list(parse_strace(lines)) == [
        Step("write", 5, "e"),
        Step("sync-begin", 5),
        Step("write", 1, "ack d"),
        Step("sync-end", 5),
        Step("sync-begin", 6),
        Step("send", 9, lines[-1].removeprefix("8 ")),
    ]


async def kill_and_check(path: Path, rounds: int) -> None:
    """Kills a writing program that many times, each time after some of its acknowledgements were read."""
    chance = random.Random(7)
    known: dict[str, int] = {}
    for number in range(rounds):
        before, lines = len(known), chance.randrange(1, LINES_MAX)
        output = killed_after(lines, chance.uniform(0.0, 0.01), path, f"r{number}")
        for name, sequence in re.findall(r"<<ack (.+?)>> (\d+)\n", output.decode()):
            known[name] = int(sequence)
        assert len(known) - before >= lines
        await check_restarted(path, known)


def killed_after(lines: int, delay_s: float, path: Path, prefix: str) -> bytes:
    """All that the program printed: more lines than it waits for anybody to read, so it writes until the kill."""
    command = python(CHILD, str(path), prefix, "100000", str(GROUP_EVENTS), "FULL")
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        try:
            output = [read_line(child.stdout) for _ in range(lines)]
            time.sleep(delay_s)
        finally:
            child.send_signal(signal.SIGKILL)
        # A last line may be cut off; then nobody has read that acknowledgement.
        return b"".join([*output, child.stdout.read()])


async def check_restarted(path: Path, known: dict[str, int]) -> None:
    store = EmbeddedStore(path)
    await store.open()
    try:
        logged = await store.log_after(0, 10_000_000)
        names = [row.append.event.event_id.strip("<>") for row in logged]
        assert len(set(names)) == len(names)
        stored = {name: row.sequence for name, row in zip(names, logged, strict=True)}
        assert {name: stored.get(name) for name in known} == known
        for row in await store.counters():
            assert row.accepted - row.swept == row.logged
        assert sum(row.accepted for row in await store.counters()) == len(logged)
    finally:
        await store.close()


async def test_killing_the_process_loses_nothing_acknowledged(tmp_path: Path) -> None:
    await kill_and_check(tmp_path / "state.db", rounds=3)


@pytest.mark.slow
async def test_killing_the_process_fifty_times_loses_nothing_acknowledged(tmp_path: Path) -> None:
    await kill_and_check(tmp_path / "state.db", rounds=50)
