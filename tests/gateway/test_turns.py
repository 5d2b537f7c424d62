"""However much JSON comes at once, what is small is not behind all of it."""

from __future__ import annotations

import asyncio
import importlib
import json
import threading
from collections.abc import Callable, Coroutine
from concurrent import futures
from itertools import pairwise
from typing import Any

import pytest

from recserv import v1 as pb
from recserv.gateway.answers import message_response
from recserv.gateway.parse import message_of_json
from recserv.gateway.turns import OFF_LOOP_BYTES, SMALL_BYTES, in_turn
from tests.gateway.support import LiveGateway
from tests.patience import HANG_GUARD_S

MANY = 100


async def _done_between(size: int, turns: int) -> list[int]:
    """How many of MANY jobs are done after each turn of the loop."""
    done = 0

    def work() -> None:
        nonlocal done
        done += 1

    jobs = [asyncio.ensure_future(in_turn(size, work)) for _ in range(MANY)]
    counts = [0]
    for _ in range(turns):
        await asyncio.sleep(0)
        counts.append(done)
    await asyncio.wait_for(asyncio.gather(*jobs), HANG_GUARD_S)
    assert done == MANY
    return counts


async def test_medium_ones_that_come_together_take_a_turn_of_the_loop_each() -> None:
    for size in (SMALL_BYTES + 1, OFF_LOOP_BYTES):
        counts = await _done_between(size, 20)
        assert all(later - earlier <= 1 for earlier, later in pairwise(counts)), counts
        assert counts[-1] > 2


async def test_small_ones_wait_for_nobody() -> None:
    assert (await _done_between(SMALL_BYTES, 1)) == [0, MANY]


async def test_large_ones_are_beside_the_loop_one_at_a_time() -> None:
    at_once = threading.Semaphore(1)
    threads = set()

    def work() -> None:
        assert at_once.acquire(blocking=False)
        threads.add(threading.get_ident())
        at_once.release()

    await asyncio.gather(*(in_turn(OFF_LOOP_BYTES + 1, work) for _ in range(20)))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("size", [1, SMALL_BYTES + 1, OFF_LOOP_BYTES + 1])
async def test_what_fails_says_so_and_the_next_one_has_its_turn(size: int) -> None:
    def broken() -> None:
        raise ValueError("broken")

    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            await in_turn(size, broken)
    assert await in_turn(size, lambda: 7) == 7


BODY = json.dumps({"sessionId": "s", "excludeItemIds": ["x" * 50] * 200}).encode()
ANSWER = pb.RecommendResponse(missing_item_ids=["x" * 50] * 200)


@pytest.mark.parametrize(
    ("place", "work"),
    [
        ("recserv.gateway.parse._message_of_json", lambda: message_of_json(BODY, pb.RecommendRequest)),
        ("recserv.gateway.answers.message_json", lambda: message_response(ANSWER)),
    ],
)
async def test_requests_are_read_and_answers_written_in_turn(
    place: str, work: Callable[[], Coroutine[Any, Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, name = place.rpartition(".")
    real, done = getattr(importlib.import_module(module), name), 0

    def counted(*given: Any) -> Any:
        nonlocal done
        done += 1
        return real(*given)

    monkeypatch.setattr(place, counted)
    jobs = [asyncio.ensure_future(work()) for _ in range(MANY)]
    for turn in range(10):
        await asyncio.sleep(0)
        assert done <= turn + 1
    await asyncio.wait_for(asyncio.gather(*jobs), HANG_GUARD_S)
    assert done == MANY


def test_health_is_answered_while_a_large_request_is_read(
    gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, begun = threading.Event(), threading.Event()

    def slow(body: bytes) -> Any:
        begun.set()
        assert held.wait(HANG_GUARD_S)
        return {}

    monkeypatch.setattr("recserv.gateway.parse._loaded", slow)
    with futures.ThreadPoolExecutor(1) as pool:
        reply = pool.submit(gateway.rpc, "Recommend", b" " * (OFF_LOOP_BYTES + 1))
        assert begun.wait(HANG_GUARD_S)
        assert gateway.send("GET", "/healthz").status == 200
        held.set()
        assert reply.result(HANG_GUARD_S).status == 200
