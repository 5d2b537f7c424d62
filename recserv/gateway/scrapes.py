"""What servers report on their /metrics, sampled for as long as somebody looks.

    a look -> a round: every address asked once, all at the same time -> samples of a minute -> EVERY_S later the next
    nobody looked for LOOKED_S -> no more rounds, and the samples are forgotten

Bounded: one fetch of an address at a time, limited in time and size; samples of a minute, of SERIES_MAX series each. A
server that cannot be reached or read is a sentence on the page, never an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import httpx
from prometheus_client.parser import text_string_to_metric_families

from recserv.config import parse_address
from recserv.gateway.figures import WANTED, WINDOW_S, Key, Sample, Seen
from recserv.gateway.lookup import Name

EVERY_S = 2.0
LOOKED_S = 30.0
FETCH_S = 1.5
PAGE_BYTES_MAX = 2 * 1024 * 1024
SERIES_MAX = 5_000


class Limits(NamedTuple):
    """`fetch_s` is for the whole of one fetch."""

    every_s: float = EVERY_S
    looked_s: float = LOOKED_S
    fetch_s: float = FETCH_S


class Unreadable(Exception):
    """Says what is wrong in words for the page."""


class Scraped:
    """One address, and the samples of the last minute."""

    def __init__(self, address: str, limits: Limits):
        host, self._port = parse_address(address)
        self._name, self._limits = Name(host, self._port), limits
        self._at: list[str] = []
        self._client: httpx.AsyncClient | None = None
        self._samples: deque[Sample] = deque()
        self.address, self._problem = address, ""

    @property
    def seen(self) -> Seen:
        return Seen(self.address, tuple(self._samples), self._problem)

    async def sample(self, clock: Callable[[], float], number: int) -> None:
        """Asks once, in the round of this number. A failure is kept as the problem; samples older than the window are
        dropped.
        """
        try:
            async with asyncio.timeout(self._limits.fetch_s):
                text = await self._fetch()
            values = await asyncio.to_thread(values_of, text)
        except (Unreadable, TimeoutError, httpx.HTTPError) as error:
            self._problem = _in_words(error, self._limits.fetch_s)
            # A fetch that was cut off may still hold its place in the client's pool.
            await self.close()
        else:
            self._problem = ""
            self._samples.append(Sample(clock(), values, number))
        while self._samples and self._samples[0].at_s < clock() - WINDOW_S:
            self._samples.popleft()

    async def _fetch(self) -> bytes:
        if self._client is None:
            # Plain HTTP to addresses that somebody typed: no certificates, no proxies, no redirects.
            headers = {"accept-encoding": "identity", "host": self.address}
            self._at = await self._name.addresses()
            self._client = httpx.AsyncClient(
                verify=False, trust_env=False, timeout=self._limits.fetch_s, headers=headers
            )
        for at in self._at:
            with contextlib.suppress(httpx.ConnectError):
                page = await self._fetched(self._client, at)
                self._at = [at]
                return page
        raise Unreadable("cannot be connected to")

    async def _fetched(self, client: httpx.AsyncClient, at: str) -> bytes:
        page = bytearray()
        async with client.stream("GET", f"http://{f'[{at}]' if ':' in at else at}:{self._port}/metrics") as response:
            if response.status_code != httpx.codes.OK:
                raise Unreadable(f"answers with HTTP status {response.status_code}")
            # Undecoded: a compressed page could unpack to any size.
            async for chunk in response.aiter_raw():
                page += chunk
                if len(page) > PAGE_BYTES_MAX:
                    raise Unreadable(f"answers with more than {PAGE_BYTES_MAX >> 20} MiB")
        return bytes(page)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def forget(self) -> None:
        self._samples.clear()


def values_of(page: bytes) -> dict[Key, float]:
    """The values that the status page needs. Raises Unreadable."""
    values: dict[Key, float] = {}
    try:
        for family in text_string_to_metric_families(page.decode()):
            for sample in family.samples:
                if sample.name in WANTED:
                    values[sample.name, tuple(sorted(sample.labels.items()))] = float(sample.value)
                    if len(values) > SERIES_MAX:
                        raise Unreadable(f"has more than {SERIES_MAX} series of those that are shown")
    except Unreadable:
        raise
    except Exception as error:
        # The parser raises ValueError, IndexError and others for a page that is not metrics.
        raise Unreadable("answers with something else than metrics") from error
    if not values:
        raise Unreadable("has no metrics of recserv")
    return values


def _in_words(error: Exception, fetch_s: float) -> str:
    if isinstance(error, Unreadable):
        return str(error)
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return f"does not answer within {fetch_s:g} s"
    return "breaks off its answer"


class Sampler:
    """Used on one event loop."""

    def __init__(
        self,
        addresses: Sequence[str],
        draining: asyncio.Event,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """`draining` ends it."""
        self._limits, self._clock, self._draining = limits or Limits(), clock, draining
        self._scraped = [Scraped(address, self._limits) for address in addresses]
        self._sampling: asyncio.Task[None] | None = None
        self._round = asyncio.Event()
        self._looked_s = 0.0
        self.rounds = 0
        """How many have ended; what is seen changes with it alone."""

    async def look(self) -> list[Seen]:
        """As of the newest round; the first look waits for its round."""
        self._looked_s = self._clock()
        if self._sampling is None:
            self._round.clear()
            self._sampling = asyncio.create_task(self._sample())
        await self._round.wait()
        return [one.seen for one in self._scraped]

    async def _sample(self) -> None:
        try:
            while not self._draining.is_set() and self._clock() - self._looked_s <= self._limits.looked_s:
                await asyncio.gather(*(one.sample(self._clock, self.rounds) for one in self._scraped))
                self.rounds += 1
                self._round.set()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._limits.every_s):
                        await self._draining.wait()
        finally:
            # Looks that wait are answered, and the next one begins anew.
            self._sampling = None
            self._round.set()
            for one in self._scraped:
                one.forget()
                await one.close()
