"""Workers share the pages of their model: several cost little more memory than one."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from recserv import v1 as pb
from recserv.app.server_process import ServerProcess
from tests.app.fleet.support import Caller, alive, callers, fleet
from tests.patience import PATIENT_SERVER, eventually

pytestmark = pytest.mark.slow

MB = 1e6
WORKERS = 4
CONNECTIONS = 24
CALLS = 2000
SHARE_MAX, EACH_MB_MAX = 1.35, 60.0


def pss_mb(pids: Sequence[int]) -> float:
    """Proportional set size summed: memory in RAM, a page that several share counted in parts by each."""
    total_kb = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total_kb += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total_kb * 1024 / MB


def warm_up(target: str, item_ids: Sequence[str]) -> None:
    """Calls that touch the model all over, on many connections: sessions, profiles, titles, categories."""
    with callers(target, CONNECTIONS) as many:
        for number in range(CALLS):
            caller: Caller = many[number % CONNECTIONS]
            item = item_ids[number * 7919 % len(item_ids)]
            event = pb.Event(event_id=f"e-{os.getpid()}-{number}", event_type=pb.EVENT_TYPE_VIEW, item_id=item)
            event.session_id = f"s-{number % 400}"
            caller.ingest(event)
            caller.recommend(f"s-{number % 400}")


def test_four_workers_take_little_more_memory_than_one_also_after_a_reload(demo_model: Path, state: str) -> None:
    from recserv.model.snapshot import load_snapshot

    item_ids = load_snapshot(demo_model).items.ids
    with ServerProcess.started(demo_model, state, PATIENT_SERVER) as alone:
        warm_up(alone.target, item_ids)
        one = pss_mb([alone.pid])
    limit = SHARE_MAX * one + EACH_MB_MAX * WORKERS
    with fleet(demo_model, state, ["--model-watch-ms", "0"], workers=WORKERS) as server:
        warm_up(server.target, item_ids)
        several = pss_mb(server.everybody())
        old = [*server.loaders(), *server.workers()]
        server.signal(signal.SIGHUP)
        eventually(lambda: not any(alive(pid) for pid in old), "the old generation goes")
        warm_up(server.target, item_ids)
        reloaded = pss_mb(server.everybody())
        parts = {pid: round(pss_mb([pid])) for pid in server.everybody()}
    print(
        f"\nPSS: one process {one:.0f} MB; {WORKERS} workers {several:.0f} MB, after a reload {reloaded:.0f} MB "
        f"(each {parts}); allowed {limit:.0f} MB"
    )
    assert several < limit
    assert reloaded < limit
