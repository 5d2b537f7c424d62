"""What the processes of a server tell each other."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recserv.app.fleet import control
from recserv.app.fleet.control import (
    AskStats,
    ControlServer,
    Drain,
    Fork,
    LoaderHere,
    Message,
    Peer,
    Stats,
    Unframer,
    WorkerHere,
    WorkerReady,
    connect,
    frame,
)
from recserv.metrics.merge import Family, Sample
from tests.patience import HANG_GUARD_S

MESSAGES = (
    LoaderHere(1, 100),
    WorkerHere(1, 2, 101),
    WorkerReady(),
    Fork(3),
    Drain(),
    AskStats(),
    Stats([Family("a", "counter", "text", [Sample("a_total", (("k", "v"),), 1.5)])]),
)


@given(st.lists(st.sampled_from(MESSAGES), max_size=8), st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_messages_arrive_whole_and_in_order_however_they_are_cut(sent: list[Message], cuts: list[int]) -> None:
    data, unframer, received, at = b"".join(frame(message) for message in sent), Unframer(), [], 0
    while at < len(data):
        size = cuts[at % len(cuts)]
        received += unframer.feed(data[at : at + size])
        at += size
    assert received == sent


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff\xff", b"\0\0\0\1\xc1", b"\0\0\0\2\x91\xa0"])
def test_bytes_that_are_no_control_message_are_rejected(garbage: bytes) -> None:
    with pytest.raises(ValueError):
        Unframer().feed(garbage)


async def test_the_server_tells_of_each_message_in_order_and_of_the_end() -> None:
    heard: asyncio.Queue[object] = asyncio.Queue()
    server = ControlServer(lambda peer, message: heard.put_nowait(message), lambda peer: heard.put_nowait(peer.hello))
    await server.start()
    connection = connect(server.name)
    for message in MESSAGES[1:3]:
        connection.sendall(frame(message))
    connection.sendall(frame(MESSAGES[-1])[:-1])
    connection.close()
    async with asyncio.timeout(HANG_GUARD_S):
        assert [await heard.get() for _ in range(3)] == [MESSAGES[1], MESSAGES[2], MESSAGES[1]]
    server.close()


async def test_a_message_that_takes_many_reads_arrives_whole() -> None:
    long = Stats([Family("a", "counter", "x" * 300_000, [])])
    reader = asyncio.StreamReader()
    reader.feed_data(frame(long) + frame(Drain()))
    reader.feed_eof()
    assert [message async for message in control.messages(reader)] == [long, Drain()]


async def test_an_abrupt_end_of_a_connection_is_an_end() -> None:
    reader = asyncio.StreamReader()
    received = []
    reader.feed_data(frame(Drain()))
    async for message in control.messages(reader):
        received.append(message)
        reader.set_exception(ConnectionResetError())
    assert received == [Drain()]


async def test_the_parent_answers_on_the_same_connection() -> None:
    def answer(peer: Peer, message: Message) -> None:
        peer.send(Fork(7))

    server = ControlServer(answer, lambda peer: None)
    await server.start()
    connection = connect(server.name)
    connection.sendall(frame(LoaderHere(1, 1)))
    unframer, received = Unframer(), []
    while not received:
        received = unframer.feed(await asyncio.to_thread(connection.recv, 100))
    assert received == [Fork(7)]
    connection.close()
    server.close()


async def test_another_user_is_not_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Message] = []
    server = ControlServer(lambda peer, message: heard.append(message), lambda peer: None)
    await server.start()
    monkeypatch.setattr(control.os, "geteuid", lambda: -1)
    connection = connect(server.name)
    assert await asyncio.to_thread(connection.recv, 1) == b""
    assert heard == []
    connection.close()
    server.close()
