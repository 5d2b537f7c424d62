"""One connection to one Redis: a batch of calls out in one write, their replies in, each settled as it arrives.

redis-py brings the connection itself: TLS, user and password, database, the protocol. The rest
is done here: no retries of its own, one limit of time around a whole batch, and a batch that breaks in the middle
keeps the replies that it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import msgspec
from redis import exceptions as redis_errors
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from recserv.stores.redis_faults import Fault, fault_of_connection, fault_of_reply
from recserv.stores.redis_url import Address, RedisTarget

CLIENT_NAME = "recserv"

Argument = bytes | str | int


class LinkTimeouts(msgspec.Struct, frozen=True, kw_only=True):
    """`connect_s`: TCP, TLS and the first words. `exchange_s`: a batch, from its first byte to its last reply."""

    connect_s: float
    exchange_s: float


class Call:
    """A command under way. `reply` gets the server's answer or a Fault. `weight`: the events in it, at least 1.

    `asking`: the node answers although the slot is only about to become its own. `address`: who had its slot then.
    """

    __slots__ = ("address", "args", "asking", "reply", "weight")

    def __init__(self, args: Sequence[Argument], weight: int = 1, *, asking: bool = False):
        self.args = args
        self.weight = weight
        self.asking = asking
        self.address: Address | None = None
        self.reply: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    @property
    def open(self) -> bool:
        return not self.reply.done()

    def settle(self, answer: object) -> None:
        if not self.reply.done():
            self.reply.set_result(answer)

    def fail(self, fault: Fault) -> None:
        if not self.reply.done():
            self.reply.set_exception(fault)
            # The caller may be gone; an unretrieved exception is then no error.
            self.reply.exception()


def pack_commands(commands: Iterable[Sequence[Argument]]) -> bytes:
    """Encodes a command in less than half the time of redis-py, which matters for batches of events."""
    parts = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for argument in command:
            data = argument if isinstance(argument, bytes) else str(argument).encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


def make_connection(target: RedisTarget, address: Address, timeouts: LinkTimeouts) -> Connection:
    """Not connected yet. Its own timeouts are off except for TCP's: a batch is timed as a whole."""
    kind = SSLConnection if target.tls else Connection
    options: dict[str, object] = {"ssl_ca_certs": target.ca_certs} if target.tls and target.ca_certs else {}
    return kind(
        host=address.host,
        port=address.port,
        db=target.db,
        username=target.username or None,
        password=target.password or None,
        socket_timeout=None,
        socket_connect_timeout=timeouts.connect_s,
        retry=Retry(NoBackoff(), 0),
        client_name=CLIENT_NAME,
        driver_info=None,
        protocol=2,
        socket_keepalive=True,
        **options,  # type: ignore[arg-type]
    )


class RedisLink:
    """`scripts`: loaded anew on each connection, so a server that was restarted knows them."""

    def __init__(self, target: RedisTarget, address: Address, timeouts: LinkTimeouts, scripts: Sequence[bytes] = ()):
        self.address = address
        self._timeouts = timeouts
        self._scripts = scripts
        self._connection = make_connection(target, address, timeouts)

    async def exchange(self, calls: Sequence[Call]) -> None:
        """Settles every call, with the server's answer or its error. Raises Fault for those that are open then."""
        if not self._connection.is_connected:
            await self._connect()
        try:
            async with asyncio.timeout(self._timeouts.exchange_s):
                unknown = await self._round(calls)
                if unknown:
                    # The server has lost the scripts (SCRIPT FLUSH).
                    await self._load_scripts()
                    for call in await self._round(unknown):
                        call.fail(Fault("noscript", "the server does not keep the scripts that it is given"))
        except BaseException as error:
            await self.close()
            if not isinstance(error, Exception):
                raise
            raise fault_of_connection(error, self.address, connecting=False) from error

    async def _round(self, calls: Iterable[Call]) -> list[Call]:
        """Settles the calls, but for those whose script the server does not know: these are returned."""
        calls = [call for call in calls if call.open]
        commands: list[Sequence[Argument]] = []
        for call in calls:
            if call.asking:
                commands.append(("ASKING",))
            commands.append(call.args)
        await self._send(commands)
        unknown = []
        for call in calls:
            if call.asking:
                await self._read()
            answer = await self._read()
            if not isinstance(answer, Exception):
                call.settle(answer)
                continue
            fault = fault_of_reply(answer)
            if fault.cause == "noscript" and self._scripts:
                unknown.append(call)
            else:
                call.fail(fault)
        return unknown

    async def _send(self, commands: Sequence[Sequence[Argument]]) -> None:
        await self._connection.send_packed_command(pack_commands(commands), check_health=False)

    async def _read(self) -> object:
        """An answer, or the error that was the answer. Raises if the connection is no longer usable."""
        try:
            answer: object = await self._connection.read_response(disable_decoding=True, disconnect_on_error=False)
        except (redis_errors.ResponseError, redis_errors.BusyLoadingError, redis_errors.AuthenticationError) as error:
            return error
        return answer

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(self._timeouts.connect_s):
                await self._connection.connect()  # type: ignore[no-untyped-call]
                await self._load_scripts()
        except BaseException as error:
            await self.close()
            if not isinstance(error, Exception):
                raise
            raise fault_of_connection(error, self.address, connecting=True) from error

    async def _load_scripts(self) -> None:
        if not self._scripts:
            return
        await self._send([("SCRIPT", "LOAD", script) for script in self._scripts])
        for answer in [await self._read() for _ in self._scripts]:
            if isinstance(answer, Exception):
                raise fault_of_reply(answer)

    async def close(self) -> None:
        await self._connection.disconnect(nowait=True)


async def ask(link: RedisLink, *args: Argument) -> object:
    """One command, one answer. Raises Fault."""
    call = Call(args)
    await link.exchange([call])
    return await call.reply
