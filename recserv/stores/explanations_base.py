"""The protocol of the explanation store: what workers share so that any of them can serve any token.

    publish   tokens and jobs of this worker -> kept for all
    claim     keys -> text known | ours to write | another live worker writes it
    settle    texts, failures, the job's end
    beat      "I live"; jobs of workers that no longer say so are anybody's (`orphans`)
    reserve   money, see llm.base.Ledger

A *key* (16 bytes) names a text: everything that went into it. A *token* names an answer; what it holds is opaque here.
A *lease* covers a worker and everything it holds: it ends LEASE_S after the worker's last beat. Texts and tokens end by
themselves.

`Outcome.failed_ms` remembers the last time when a key was given up, so that a token that saw the template as final sees
it for good, although a later attempt may succeed for others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

LEASE_S = 3.0
BEAT_S = 1.0
TAKEOVERS_MAX = 2
"""A job that lost that many workers is given up: perhaps it was what killed them."""


class Outcome(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Of one key: `text` as of `ready_ms`, else empty; `failed_ms` and `cause` of the last failure, else 0."""

    text: str = ""
    ready_ms: int = 0
    failed_ms: int = 0
    cause: int = 0


class PostedJob(msgspec.Struct, frozen=True, array_like=True):
    """`payload` is opaque here. `takeovers`: how many workers had it and died."""

    job_id: str
    tenant: str
    payload: bytes
    takeovers: int = 0


class Post(msgspec.Struct, frozen=True):
    """What one Recommend leaves behind. `token` empty: jobs only."""

    tenant: str
    token: str
    record: bytes
    jobs: tuple[PostedJob, ...] = ()


class Claim(msgspec.Struct, frozen=True):
    """Of one key: a text, or ours to write (`mine`), or neither: a live worker is at it."""

    mine: bool
    text: str = ""


class ExplanationStore(Protocol):
    shared: bool
    """Whether other workers see it. If not, tokens and jobs need not be published."""

    async def open(self) -> None: ...

    async def close(self) -> None:
        """Gives the lease up, so that others take over at once. Idempotent."""

    async def publish(self, posts: Sequence[Post]) -> None:
        """Keeps tokens for their time to live, and jobs under this worker's lease. Raises StoreUnavailable."""

    async def token(self, tenant: str, token: str) -> bytes | None:
        """The record published under a token of that tenant. Raises StoreUnavailable."""

    async def outcomes(self, tenant: str, keys: Sequence[bytes]) -> list[Outcome]:
        """In order; an empty Outcome for an unknown key. Raises StoreUnavailable."""

    async def claim(self, tenant: str, keys: Sequence[bytes]) -> list[Claim]:
        """In order. What is ours stays ours until it is settled or our lease ends. Raises StoreUnavailable."""

    async def settle(self, tenant: str, job_id: str, outcomes: Sequence[tuple[bytes, Outcome]], *, done: bool) -> None:
        """Keeps the outcomes and frees the claims on their keys; with `done` the job is over. Raises StoreUnavailable.

        An outcome without a text keeps a text that is there.
        """

    async def beat(self) -> None:
        """Extends this worker's lease. Raises StoreUnavailable."""

    async def orphans(self, limit: int) -> list[PostedJob]:
        """Jobs of workers whose lease has ended; they are under ours now. Raises StoreUnavailable."""

    async def reserve(self, amount: int, day_max: int, minute_max: int) -> str: ...

    async def settle_spend(self, reservation: str, reserved: int, spent: int) -> None: ...
