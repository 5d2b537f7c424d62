from __future__ import annotations

import subprocess
import sys
import time

from tests.chaos.machine import Others, machine_busy_s, ours_busy_s
from tests.chaos.rig import STALL_MS, longest_stall_ms, stalled_ms, watch_stalls
from tests.redis_server import RedisServer

SPIN = """
import time
while time.process_time() < {}: pass
print("done", flush=True)
input()
"""


def test_what_this_process_and_its_children_use_is_ours() -> None:
    before_s, machine_before_s = ours_busy_s(), machine_busy_s()
    spin = [sys.executable, "-c", SPIN.format(0.3)]
    with subprocess.Popen(spin, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"done\n"
        used_s = ours_busy_s() - before_s
        child.communicate(b"\n")
    assert ours_busy_s() - before_s >= 0.25, "what a child used is ours after its end, too"
    # Counted in ticks of a hundredth of a second.
    assert used_s >= 0.25
    assert machine_busy_s() - machine_before_s >= 0.2


def test_processor_time_of_unrelated_processes_counts_as_others() -> None:
    # Orphaned at once, so it is no descendant any more.
    others = Others()
    spin = SPIN.format(0.5).replace("input()", "")
    subprocess.run(["sh", "-c", '"$0" -c "$1" >/dev/null 2>&1 &', sys.executable, spin], check=True, timeout=30)
    give_up_s = time.monotonic() + 30.0
    began_s = time.monotonic()
    while others.cores() * (time.monotonic() - began_s) < 0.35:
        assert time.monotonic() < give_up_s
        time.sleep(0.05)


def test_what_the_disk_does_to_redis_is_told_from_what_a_fault_does() -> None:
    events = [
        ("command", 1, 300, 900),
        ("aof-fsync-always", 1, 60, 210),
        ("fork", 1, 70, 80),
        ("eviction-del", 1, 99, 99),
    ]
    assert longest_stall_ms(events) == 210
    assert longest_stall_ms(events[:1]) == 0


def test_redis_is_told_to_record_stalls_and_has_none_yet(redis_server: RedisServer) -> None:
    watch_stalls(redis_server)
    assert stalled_ms(redis_server) == 0
    with redis_server.client() as client:
        assert client.config_get("latency-monitor-threshold") == {"latency-monitor-threshold": str(STALL_MS)}
