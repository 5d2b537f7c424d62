"""Whoever has an event acknowledged by one worker reads it back from any other, at once."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from recserv import v1 as pb
from tests.app.fleet.support import WORKER_KEY, fleet
from tests.patience import HANG_GUARD_S, eventually_async

WORKERS = 4
WRITERS = 32
ITEMS = 180


class Rounds:
    """Rounds of one write on one connection and two reads on another. Counts what was stale, and whose worker was
    whose.
    """

    def __init__(self, target: str):
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channels = [grpc.aio.insecure_channel(target, options) for _ in range(WRITERS)]
        self._stubs = [pb.RecommendationServiceStub(channel) for channel in self._channels]
        self.stale: list[str] = []
        self.rounds: Counter[str] = Counter()
        self._run = secrets.token_hex(4)
        self._random = random.Random(1)
        self._workers: list[str] = []
        """At the other ends of the connections."""

    async def run(self, count: int) -> None:
        nobody = pb.GetContextRequest(session_id=f"s-{self._run}")
        asked = await asyncio.gather(*(self._asked(stub.GetContext, nobody) for stub in self._stubs))
        self._workers = [worker for _, worker in asked]
        await asyncio.gather(*(self._writer(number, count // WRITERS) for number in range(WRITERS)))

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()

    async def _writer(self, number: int, rounds: int) -> None:
        for turn in range(rounds):
            kind = ("session", "user", "both")[turn % 3]
            # A shopper lives for several rounds: the later ones find a session and a cached context there already.
            shopper = f"{self._run}-{number}-{turn // 15}"
            ids = {} if kind == "user" else {"session_id": f"s-{shopper}"}
            if kind != "session":
                ids["user_id"] = f"u-{shopper}"
            await self._round(number, f"item-{(number * 31 + turn * 7) % ITEMS}", f"{shopper}-{turn}", ids)
            self.rounds[kind] += 1

    async def _round(self, number: int, item: str, event_id: str, ids: dict[str, str]) -> None:
        # Purchases are kept of users, too, and the context tells of them.
        buys = "user_id" in ids
        event = pb.Event(event_id=event_id, item_id=item, **ids)
        event.event_type = pb.EVENT_TYPE_PURCHASE if buys else pb.EVENT_TYPE_VIEW
        others = [n for n, worker in enumerate(self._workers) if worker != self._workers[number]]
        reader = self._stubs[self._random.choice(others)]
        _, writer = await self._asked(self._stubs[number].IngestEvent, pb.IngestEventRequest(event=event))
        request = pb.RecommendRequest(page_size=100, exclude_purchased=True, **ids)
        (seen, answerer), (answer, _) = await asyncio.gather(
            self._asked(reader.GetContext, pb.GetContextRequest(**ids)), self._asked(reader.Recommend, request)
        )
        held = seen.purchased_item_ids if buys else seen.recent_item_ids
        if item not in held:
            self.stale.append(f"GetContext {ids} {item} {event_id}")
        if buys and item in [result.item_id for result in answer.results]:
            self.stale.append(f"Recommend {ids} {item} {event_id}")
        self.rounds["across two workers"] += writer != answerer
        self.rounds["all"] += 1

    async def _asked(self, rpc: Any, request: Any) -> tuple[Any, str]:
        """The answer and who gave it. A server that says it is too busy to look is asked again: it hides nothing."""
        given: list[tuple[Any, str]] = []

        async def answered() -> bool:
            call = rpc(request, timeout=HANG_GUARD_S)
            try:
                answer = await call
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
            else:
                if list(getattr(answer, "degraded_reasons", ())) != [pb.DEGRADED_REASON_OVERLOAD]:
                    assert not getattr(answer, "degraded", False), answer.degraded_reasons
                    given.append((answer, dict(await call.trailing_metadata())[WORKER_KEY]))
                    return True
            self.rounds["too busy"] += 1
            return False

        await eventually_async(answered, "a server that is not too busy")
        return given[0]


async def no_read_is_stale(model: Path, state: str, count: int) -> None:
    with fleet(model, state, workers=WORKERS) as server:
        rounds = Rounds(server.target)
        await rounds.run(count)
        await rounds.close()
    print(f"\n{dict(rounds.rounds)}, {len(rounds.stale)} stale")
    assert rounds.stale == []
    assert rounds.rounds["all"] == count
    assert rounds.rounds["across two workers"] >= count / 2
    assert min(rounds.rounds[kind] for kind in ("session", "user", "both")) >= count // 4


async def test_what_one_worker_acknowledged_another_one_reads(tiny_model: Path, state: str) -> None:
    await no_read_is_stale(tiny_model, state, 10 * WRITERS)


@pytest.mark.slow
async def test_twenty_thousand_rounds_over_four_workers_read_what_was_written(tiny_model: Path, state: str) -> None:
    await no_read_is_stale(tiny_model, state, 625 * WRITERS)
