"""Providers that answer with anything but what they should: nothing of it reaches a shopper, nobody waits for it."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from recserv.llm.base import BadAnswer, TimedOut
from recserv.llm.client import ANSWER_BYTES_MAX, ChatAnswer, ChatRequest, LlmClient, OnText
from recserv.llm.keys import KeyRing
from recserv.resilience.deadline import Deadline
from recserv.types import TemplateCause
from tests.llm.plain_provider import HANG, Asked, PlainProvider, Reply, good, texts
from tests.llm.support import Rig, settings, task
from tests.patience import HANG_GUARD_S, eventually_async

WANTED = task("Blue bowl", "Red spoon")
CHAT = ChatRequest("small", (("system", ""), ("user", '{"products": {"p1": {}}}')), 50)
OK = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: "
SSE = f"{OK}text/event-stream\r\n\r\n"
HALF = 'data: {"choices": [{"index": 0, "delta": {"content": "{\\"p1\\": \\"Good for"}}]}\n\n'


def raw(kind: str, body: str | bytes, extra: str = "") -> Reply:
    return Reply(raw=f"{OK}{kind}\r\n{extra}\r\n".encode() + (body if isinstance(body, bytes) else body.encode()))


def completion(content: object, finish_reason: object = "stop") -> str:
    return json.dumps({"choices": [{"message": {"content": content}, "finish_reason": finish_reason}]})


@pytest.fixture
async def provider() -> AsyncIterator[PlainProvider]:
    async with PlainProvider() as provider:
        yield provider


NONSENSE = {
    "html": (raw("text/html", "<html><body>Bad gateway</body></html>"), "bad_answer"),
    "null": (raw("application/json", "null"), "bad_answer"),
    "empty": (raw("application/json", ""), "bad_answer"),
    "an array": (raw("application/json", "[1, 2]"), "bad_answer"),
    "no choices": (raw("application/json", '{"choices": []}'), "bad_answer"),
    "null content": (raw("application/json", completion(None)), "unusable"),
    "content that is no text": (raw("application/json", completion({"p1": "x"})), "bad_answer"),
    "no finish reason": (raw("application/json", completion('{"p1": "Good one"}', None)), "bad_answer"),
    "not UTF-8": (raw("application/json", b'{"choices": [{"message": {"content": "\xff"}}]}'), "bad_answer"),
    "deep": (raw("application/json", "[" * 100_000), "bad_answer"),
    "10 MB": (raw("application/json", completion("x" * 10_000_000)), "bad_answer"),
    "gzip bomb": (
        raw("application/json", gzip.compress(b" " * 50_000_000), "content-encoding: gzip\r\n"),
        "bad_answer",
    ),
    "redirect": (Reply(raw=b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n"), "refused"),
    "no HTTP": (Reply(raw=b"hello there\r\n\r\n"), "provider_down"),
    "cut in the middle": (Reply(raw=f"{OK}application/json\r\ncontent-length: 99\r\n\r\n{{".encode()), "provider_down"),
    "a stream that only began": (Reply(raw=(SSE + HALF).encode()), "bad_answer"),
    "a stream of something else": (Reply(raw=(SSE + "data: [1]\n\n").encode()), "bad_answer"),
    "a line without end": (Reply(raw=SSE.encode() + b"data: " + b"x" * 200_000), "bad_answer"),
    "a stream without end": (Reply(raw=SSE.encode(), endless=HALF.encode() * 100), "bad_answer"),
    "a body without end": (Reply(raw=f"{OK}application/json\r\n\r\n".encode(), endless=b" " * 65_536), "bad_answer"),
}


@pytest.mark.parametrize("name", NONSENSE)
async def test_nonsense_is_a_failure_and_the_template_stays(provider: PlainProvider, name: str) -> None:
    reply, outcome = NONSENSE[name]
    provider.behave = lambda asked: reply
    rig = Rig(settings(provider.base_url, attempts_max=1))
    written = await rig.write(WANTED)
    await rig.writer.close()
    assert (written.texts, rig.landed) == ({}, [])
    assert written.cause in (TemplateCause.PROVIDER_FAILED, TemplateCause.DISCARDED)
    assert rig.recorder.outcomes == [outcome]
    assert len(provider.asked) == 1, "no redirect is followed"


async def test_an_answer_without_end_is_read_up_to_its_cap(provider: PlainProvider) -> None:
    def behave(asked: Asked) -> Reply:
        return Reply(raw=f"{OK}application/json\r\n\r\n".encode(), endless=b" " * 65_536)

    provider.behave = behave
    client = LlmClient(provider.base_url, KeyRing(()))
    with pytest.raises(BadAnswer, match=f"more than {ANSWER_BYTES_MAX} bytes"):
        await client.chat(CHAT, Deadline(HANG_GUARD_S))
    await eventually_async(lambda: not provider.in_flight, "nobody reads on")
    await client.close()


async def test_a_stream_that_trickles_for_ever_ends_at_the_deadline(provider: PlainProvider) -> None:
    """A byte now and then keeps every phase of httpx happy."""

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SSE.encode())
        try:
            while True:
                writer.write(b": still there\n\n")
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    rig = Rig(settings(f"http://127.0.0.1:{port}/v1", attempt_timeout_s=0.1, attempts_max=1))
    written = await rig.write(WANTED)
    assert rig.recorder.outcomes == ["timed_out"]
    assert written.cause is TemplateCause.PROVIDER_FAILED
    await eventually_async(lambda: not rig.client.in_flight, "the exchange itself ends as well")
    server.close()
    await rig.writer.close()


async def test_calls_that_are_given_up_leave_room_in_the_pool(provider: PlainProvider) -> None:
    """More calls that hang than the pool has places, some at once, some given up by their caller; then it recovers."""
    provider.behave = lambda asked: HANG
    client = LlmClient(provider.base_url, KeyRing(()), in_flight_max=4)

    async def give_up(after_s: float) -> None:
        call = asyncio.create_task(client.chat(CHAT, Deadline(0.1)))
        await asyncio.sleep(after_s)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)

    for turn in range(15):
        calls = [client.chat(CHAT, Deadline(0.05)) for _ in range(4)]
        failures = await asyncio.gather(*calls, *[give_up(turn / 300) for _ in range(4)], return_exceptions=True)
        assert {type(failure) for failure in failures[:4]} == {TimedOut}
    provider.behave = good
    answers = await asyncio.gather(*[client.chat(CHAT, Deadline(HANG_GUARD_S)) for _ in range(8)])
    assert {answer.text for answer in answers} == {texts(provider.asked[-1])}
    await client.close()


async def test_one_deadline_bounds_the_whole_job(provider: PlainProvider) -> None:
    provider.behave = lambda asked: HANG
    rig = Rig(settings(provider.base_url, "a", "b", "c", attempt_timeout_s=0.1))
    chat, limits_s = rig.client.chat, []

    async def noted(request: ChatRequest, deadline: Deadline, on_text: OnText | None) -> ChatAnswer:
        limits_s.append(deadline.at_s)
        return await chat(request, deadline, on_text)

    rig.client.chat = noted
    whole = Deadline(0.15)
    written = await rig.writer.write(WANTED, whole, lambda key, text: None)
    assert max(limits_s) <= whole.at_s
    assert len(provider.asked) <= 2, "each attempt but the last takes 0.1 s of 0.15"
    assert written.texts == {}
    await rig.writer.close()


async def test_silence_is_given_up_and_the_only_model_asked_again(provider: PlainProvider) -> None:
    rig = Rig(settings(provider.base_url))
    rig.give_up_first_attempt()
    provider.behave = lambda asked: good(asked) if rig.recorder.outcomes else HANG
    written = await rig.write(WANTED)
    assert (len(written.texts), written.attempts) == (2, 2)
    assert rig.recorder.outcomes == ["timed_out", "ok"]
    await rig.writer.close()


async def test_connections_are_used_again(provider: PlainProvider) -> None:
    ports: set[str] = set()
    original = provider._serve

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ports.add(str(writer.get_extra_info("peername")))
        await original(reader, writer)

    async with PlainProvider() as other:
        assert other._server is not None
        other._server.close()
        other._server = await asyncio.start_server(counted, "127.0.0.1", 0)
        port = other._server.sockets[0].getsockname()[1]
        rig = Rig(settings(f"http://127.0.0.1:{port}/v1"))
        for _ in range(10):
            assert len((await rig.write(WANTED)).texts) == 2
            # Texts land before the answer is over.
            await eventually_async(lambda: not rig.client.in_flight)
        await rig.writer.close()
    assert len(ports) == 1


async def test_a_key_is_rotated_while_jobs_run_and_none_fails(provider: PlainProvider, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# for the shop\nold-key\n")

    def behave(asked: Asked) -> Reply:
        valid = "old-key" if len(provider.asked) <= 55 else "new-key"
        return good(asked) if asked.key == valid else Reply(status=401, content="bad key")

    provider.behave = behave
    rig = Rig(settings(provider.base_url), keys=(f"file:{file}",))

    async def rotated_while_jobs_wait(seconds: float) -> None:
        if len(rig.clock.slept_s) == 5:
            file.write_text("new-key\n")
        await rig.clock.sleep(seconds)

    rig.writer.sleep = rotated_while_jobs_wait
    written = []
    for _ in range(20):
        written += await asyncio.gather(*[rig.write(WANTED) for _ in range(10)])
    assert len(rig.clock.slept_s) > 5
    assert [len(one.texts) for one in written] == [2] * 200
    assert {asked.key for asked in provider.asked} == {"old-key", "new-key"}
    assert [one.attempts for one in written] == [1] * 200
    await rig.writer.close()


async def test_a_file_that_is_rotated_to_nonsense_costs_no_call_and_no_money(
    provider: PlainProvider, tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    file.write_text("old-key\n")
    rig = Rig(settings(provider.base_url), keys=(f"file:{file}",))
    file.write_text("\ufeffnew-key\n", encoding="utf-8")
    rig.client._keys.refused("other-key")
    assert len((await rig.write(WANTED)).texts) == 2
    assert {asked.key for asked in provider.asked} == {"old-key"}
    assert rig.recorder.outcomes == ["ok"]
    await rig.writer.close()


async def test_the_next_key_serves_when_one_is_refused(provider: PlainProvider, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("refused\nfine\n")
    provider.behave = lambda asked: good(asked) if asked.key == "fine" else Reply(status=401)
    rig = Rig(settings(provider.base_url), keys=(f"file:{file}",))
    for _ in range(3):
        assert len((await rig.write(WANTED)).texts) == 2
    assert [asked.key for asked in provider.asked] == ["refused", "fine", "fine", "fine"]
    await rig.writer.close()


async def test_keys_that_are_all_refused_end_the_job_as_a_failure(provider: PlainProvider, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("one\ntwo\n")
    provider.behave = lambda asked: Reply(status=401)
    rig = Rig(settings(provider.base_url), keys=(f"file:{file}",), uniform=lambda: 0.1)
    written = await rig.write(WANTED)
    assert (written.texts, written.cause) == ({}, TemplateCause.PROVIDER_FAILED)
    assert len(provider.asked) == 2, "a key that was refused is not sent again and again"
    await rig.writer.close()
