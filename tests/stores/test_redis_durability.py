"""What an acknowledgement by Redis means with `appendfsync always`: the sync that covers the event had returned."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from recserv.stores.redis import RedisLimits, RedisStore
from tests import tools
from tests.patience import HANG_GUARD_S, eventually
from tests.redis_server import reserved_port
from tests.stores.redis_support import PATIENT
from tests.stores.support import START_MS, ManualClock, make, put
from tests.stores.tracing import TRACERS, Acknowledgement, acknowledgements

ONE_FAST = [pytest.param(name, marks=[pytest.mark.slow] if place else []) for place, name in enumerate(sorted(TRACERS))]
EVENTS = 30


@contextmanager
def traced_redis(tracer: str, directory: Path, appendfsync: str) -> Iterator[str]:
    """The URL of a server that runs under the tracer. On leaving it has ended."""
    holder = reserved_port()
    port = holder.getsockname()[1]
    command = [tools.redis_server(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory)]
    command += ["--appendonly", "yes", "--appendfsync", appendfsync, "--save", ""]
    traced = TRACERS[tracer].prepare(command, directory)
    environment = {**os.environ, **traced.environment}
    log_file, once = directory / "redis.log", Retry(NoBackoff(), 0)
    with holder, log_file.open("wb") as log, redis.Redis(port=port, retry=once) as client:
        process = subprocess.Popen(traced.command, stdout=log, stderr=log, env=environment)
        try:

            def answers() -> bool:
                assert process.poll() is None, log_file.read_text()
                return _answers(client)

            eventually(answers, "the traced server answers")
            yield f"redis://127.0.0.1:{port}"
            # The tracer passes no signals on.
            client.shutdown(nosave=True)
            assert process.wait(HANG_GUARD_S) == 0
        finally:
            process.kill()
            process.wait()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


async def acknowledged(tracer: str, directory: Path, appendfsync: str, group: int) -> list[Acknowledgement]:
    """Each event has an arrival of its own: Redis names it in its answer, and nowhere else in this form."""
    with traced_redis(tracer, directory, appendfsync) as url:
        store = RedisStore(url, clock=ManualClock(), limits=RedisLimits(timeouts=PATIENT))
        await store.open()
        for start in range(0, EVENTS, group):
            numbers = range(start, start + group)
            await put(store, *[make(f"<<e-{n}>>", session_id=f"s{n % 3}", at=START_MS + n) for n in numbers])
        await store.close()
    sent = {f"e-{n}": f":{START_MS + n}" for n in range(EVENTS)}
    seen = acknowledgements(TRACERS[tracer].steps(directory), sent)
    assert sorted(entry.event for entry in seen) == sorted(sent)
    return seen


@pytest.mark.parametrize("tracer", ONE_FAST)
@pytest.mark.parametrize("group", [pytest.param(1, marks=pytest.mark.slow), 10])
async def test_redis_syncs_an_event_before_it_acknowledges_it(tracer: str, group: int, tmp_path: Path) -> None:
    assert [entry.event for entry in await acknowledged(tracer, tmp_path, "always", group) if not entry.true] == []


@pytest.mark.slow
@pytest.mark.parametrize("tracer", sorted(TRACERS))
async def test_the_same_check_fails_once_syncing_is_left_to_the_system(tracer: str, tmp_path: Path) -> None:
    false = [entry.event for entry in await acknowledged(tracer, tmp_path, "no", 1) if not entry.true]
    assert len(false) >= EVENTS - 2
