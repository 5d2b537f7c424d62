from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from recserv.pipeline import enrich_pace
from recserv.pipeline.enrich_pace import BUSY_JOBS_PER_S, SCHEDULED, Pace, wanted_s


class Times:
    def __init__(self) -> None:
        self.now_s, self.used_s = 100.0, 5.0

    def pass_by(self, seconds: float, share: float) -> None:
        self.now_s += seconds
        self.used_s += seconds * share


def test_an_idle_loop_lets_jobs_begin_as_they_come_and_a_busy_one_a_few_a_second() -> None:
    times = Times()
    pace = Pace(lambda: times.now_s, lambda: times.used_s)
    begun = 0
    for _ in range(100):
        if not pace.wait_s():
            pace.began()
            begun += 1
    assert begun == 100
    times.pass_by(0.1, 0.7)
    pace.look()
    begun = 0
    for _ in range(1000):
        times.pass_by(0.01, 0.7)
        pace.look()
        if not pace.wait_s():
            pace.began()
            begun += 1
    assert BUSY_JOBS_PER_S * 9 <= begun <= BUSY_JOBS_PER_S * 10 + 1
    times.pass_by(0.1, 0.3)
    pace.look()
    assert pace.wait_s() == 0.0


def test_the_wait_is_what_is_left_of_the_interval() -> None:
    times = Times()
    pace = Pace(lambda: times.now_s, lambda: times.used_s)
    times.pass_by(0.1, 1.0)
    pace.look()
    pace.began()
    times.pass_by(0.05, 1.0)
    assert abs(pace.wait_s() - (1 / BUSY_JOBS_PER_S - 0.05)) < 1e-9


def test_a_thread_that_waits_for_a_core_has_none_to_spare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = Times()
    scheduled = tmp_path / "schedstat"
    monkeypatch.setattr(enrich_pace, "SCHEDULED", scheduled)
    scheduled.write_text("1000000000 500000000 7\n")
    pace = Pace(lambda: times.now_s)
    times.pass_by(0.1, 0.0)
    scheduled.write_text("1020000000 540000000 9\n")
    pace.look()
    assert pace.busy, "20 ms on a core and 40 ms in its queue, of 100"
    times.pass_by(0.1, 0.0)
    scheduled.write_text("1040000000 550000000 11\n")
    pace.look()
    assert not pace.busy


def test_time_on_a_core_and_time_in_its_queue_are_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enrich_pace, "SCHEDULED", tmp_path / "schedstat")
    (tmp_path / "schedstat").write_text("1000000000 500000000 7\n")
    assert wanted_s() == 1.5


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is the thread's CPU time")
def test_what_linux_says_is_of_the_calling_thread() -> None:
    found: list[tuple[Path, int]] = []
    thread = threading.Thread(target=lambda: found.append((SCHEDULED.resolve(), threading.get_native_id())))
    thread.start()
    thread.join()
    for path, thread_id in (*found, (SCHEDULED.resolve(), threading.get_native_id())):
        assert path.parts[-3:] == ("task", str(thread_id), SCHEDULED.name)
    assert len(SCHEDULED.read_bytes().split()) == 3


@pytest.mark.benchmark
def test_wanted_time_counts_the_calling_thread_only() -> None:
    found: list[float] = []

    def work() -> None:
        before_s = wanted_s()
        until_s = time.thread_time() + 0.2
        while time.thread_time() < until_s:
            pass
        found.append(wanted_s() - before_s)

    before_s = wanted_s()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found[0] >= 0.19
    # This thread has only waited for the other, which is no waiting for a core.
    assert wanted_s() - before_s < found[0]


@pytest.mark.parametrize("content", [None, "", "what is this", "1 2"])
def test_where_the_system_does_not_say_it_is_the_threads_cpu_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "schedstat").write_text(content)
    monkeypatch.setattr(enrich_pace, "SCHEDULED", tmp_path / "schedstat")
    monkeypatch.setattr(time, "thread_time", lambda: 12.5)
    assert wanted_s() == 12.5
