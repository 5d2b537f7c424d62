"""A provider that does exactly what a test needs, fast: chat completions over plain HTTP/1.1, good, bad and silent.

    async with PlainProvider(behave) as provider: ...          on this loop
    python -m tests.llm.plain_provider --delay-ms 300          a process of its own; prints its address

`behave(request)` says how a request is answered. Every product that the prompt asks for gets a text.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Headers = dict[str, str]


@dataclass
class Asked:
    """A request as it came."""

    path: str
    headers: Headers
    body: dict[str, Any]

    @property
    def labels(self) -> list[str]:
        return list(json.loads(self.body["messages"][1]["content"])["products"])

    @property
    def key(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")


@dataclass
class Reply:
    """`raw`: the whole answer as bytes, instead of one made from `content` or `status`."""

    status: int = 200
    content: str | None = None
    headers: Headers = field(default_factory=dict)
    delay_s: float = 0.0
    hang: bool = False
    raw: bytes | None = None
    endless: bytes = b""
    usage: tuple[int, int] | None = (100, 50)


Behave = Callable[[Asked], Reply]
HANG = Reply(hang=True)


def good(asked: Asked) -> Reply:
    return Reply(content=texts(asked))


def texts(asked: Asked, text: str = "Chosen for your kitchen") -> str:
    return json.dumps(dict.fromkeys(asked.labels, text))


class PlainProvider:
    def __init__(self, behave: Behave = good):
        self.behave = behave
        self.asked: list[Asked] = []
        self.in_flight = self.in_flight_max = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> PlainProvider:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        port = self._server.sockets[0].getsockname()[1]
        self.base_url = f"http://127.0.0.1:{port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # A client that goes away in the middle is its right.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._one(reader, writer):
                pass
        writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rest = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (h.partition(":") for h in rest if h)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        asked = Asked(line.split(" ")[1], headers, json.loads(body) if body else {})
        self.asked.append(asked)
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight, self.in_flight_max)
        try:
            reply = self.behave(asked)
            if reply.hang:
                # Until the client has had enough.
                await reader.read(1)
                return False
            return await self._answer(asked, reply, writer)
        finally:
            self.in_flight -= 1

    async def _answer(self, asked: Asked, reply: Reply, writer: asyncio.StreamWriter) -> bool:
        if reply.delay_s:
            await asyncio.sleep(reply.delay_s)
        if reply.raw is not None:
            writer.write(reply.raw)
            while reply.endless:
                writer.write(reply.endless)
                await writer.drain()
            await writer.drain()
            return False
        writer.write(_wire(asked, reply))
        await writer.drain()
        return True


def _wire(asked: Asked, reply: Reply) -> bytes:
    kind = "application/json"
    usage = {"prompt_tokens": reply.usage[0], "completion_tokens": reply.usage[1]} if reply.usage else None
    if reply.status != 200:
        payload = json.dumps({"error": {"message": reply.content or "no"}}).encode()
    elif asked.body.get("stream"):
        kind = "text/event-stream"
        content = reply.content or ""
        pieces = [content[at : at + 24] for at in range(0, len(content), 24)]
        chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        chunks.append({"choices": [], "usage": usage})
        payload = b"".join(f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks) + b"data: [DONE]\n\n"
    else:
        choice = {"index": 0, "message": {"role": "assistant", "content": reply.content}, "finish_reason": "stop"}
        payload = json.dumps({"choices": [choice], "usage": usage}).encode()
    headers = {"content-type": kind, "content-length": str(len(payload)), **reply.headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {reply.status} X\r\n{head}\r\n".encode() + payload


def unreliable(seed: int, share: float, retry_after_s: float = 0.05) -> tuple[Behave, Counter[str]]:
    """Fails in so many of 100 cases: rate limit, error, silence, garbage, each equally often."""
    dice, counts = random.Random(seed), Counter[str]()

    def behave(asked: Asked) -> Reply:
        if dice.random() >= share:
            counts["good"] += 1
            return good(asked)
        kind = dice.choice(["429", "500", "hang", "garbage"])
        counts[kind] += 1
        if kind == "429":
            return Reply(status=429, headers={"retry-after": str(retry_after_s)})
        if kind == "500":
            return Reply(status=500)
        if kind == "hang":
            return HANG
        return Reply(content="<html>certainly! here is your text</html>")

    return behave, counts


async def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--hang", action="store_true")
    args = parser.parse_args()

    def behave(asked: Asked) -> Reply:
        return HANG if args.hang else Reply(content=texts(asked), delay_s=args.delay_ms / 1000)

    async with PlainProvider(behave) as provider:
        print(provider.base_url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
