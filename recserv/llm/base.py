"""The interface to language models: a task in, texts out, and the reason for each text that is missing.

    WritingTask  a situation and up to a page of products   -> Writer.write -> texts as they land -> Written

A task holds everything that the model is ever told. Two shoppers whose tasks are equal may share the answer, so nothing
enters a task that is not part of the key under which its texts are kept: no user ids, no history beyond the few items
that make up the situation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from recserv.errors import RecservError
from recserv.resilience.deadline import Deadline
from recserv.types import TemplateCause


class ContextItem(msgspec.Struct, frozen=True, array_like=True):
    """A product of the shopper's situation. `role` in a few words: "viewed", "in the cart"."""

    title: str
    role: str


class Situation(msgspec.Struct, frozen=True, array_like=True):
    """What the shopper is doing, coarse enough to be shared: items, oldest first, and the newest search."""

    items: tuple[ContextItem, ...] = ()
    search: str = ""


class ItemFacts(msgspec.Struct, frozen=True, array_like=True):
    """A product to explain. `key`: the caller's name for it, which never leaves the process. `evidence`: the
    template reason, as a hint at why it was recommended.
    """

    key: bytes
    title: str
    brand: str = ""
    categories: tuple[str, ...] = ()
    description: str = ""
    evidence: str = ""


class WritingTask(msgspec.Struct, frozen=True, array_like=True):
    """Texts wanted for `items`, in the language of `locale` (BCP 47; empty: English)."""

    tenant: str
    locale: str
    tier: str
    situation: Situation
    items: tuple[ItemFacts, ...]


class Written(msgspec.Struct, frozen=True):
    """`texts` by ItemFacts.key; `cause`: why the other items have none (UNSPECIFIED if every item has a text)."""

    texts: dict[bytes, str]
    cause: TemplateCause = TemplateCause.UNSPECIFIED
    attempts: int = 0


Landed = Callable[[bytes, str], None]
"""(ItemFacts.key, text): called once for each accepted text as it arrives."""


class Writer(Protocol):
    def closed(self) -> TemplateCause:
        """Why a task would be refused now (budget spent, every breaker open); UNSPECIFIED if it would be tried."""

    async def write(self, task: WritingTask, deadline: Deadline, landed: Landed) -> Written:
        """Never raises for what a provider does, and returns by the deadline."""


class Ledger(Protocol):
    """Money, in billionths of a dollar (the price of a token in dollars per million, times 1,000)."""

    async def reserve(self, amount: int, day_max: int, minute_max: int) -> str:
        """Sets `amount` aside in the running day and minute; empty if either would pass its limit.

        Returns what `settle_spend` takes. A limit of 0 means none. Raises StoreUnavailable.
        """

    async def settle_spend(self, reservation: str, reserved: int, spent: int) -> None:
        """Replaces the reservation by what was actually spent. Raises StoreUnavailable."""


class LlmObserver(Protocol):
    """Called on the event loop: must be cheap and must not raise. `outcome`, `reason` and `kind` have fixed values."""

    def call(self, model: str, outcome: str, seconds: float) -> None: ...

    def spent(self, model: str, input_tokens: int, output_tokens: int, nanodollars: int, estimated: bool) -> None: ...

    def discarded(self, reason: str, count: int = 1) -> None: ...

    def job(self, outcome: str, waited_s: float) -> None: ...

    def cache(self, hits: int, misses: int, joined: int) -> None: ...

    def dropped(self, kind: str, count: int = 1) -> None: ...


class SilentLlmObserver:
    """For tools and tests that measure nothing."""

    def call(self, model: str, outcome: str, seconds: float) -> None:
        """Nobody listens."""

    def spent(self, model: str, input_tokens: int, output_tokens: int, nanodollars: int, estimated: bool) -> None:
        """Nobody listens."""

    def discarded(self, reason: str, count: int = 1) -> None:
        """Nobody listens."""

    def job(self, outcome: str, waited_s: float) -> None:
        """Nobody listens."""

    def cache(self, hits: int, misses: int, joined: int) -> None:
        """Nobody listens."""

    def dropped(self, kind: str, count: int = 1) -> None:
        """Nobody listens."""


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one call."""

    input_tokens: int
    output_tokens: int


class LlmFailure(RecservError):
    """A call without an answer. `usage`: what the provider reported for it nonetheless; `billable`: the provider
    accepted the request, so it may charge for it.
    """

    reason = "LLM"
    outcome = "failed"
    billable = True

    def __init__(self, message: str, usage: Usage | None = None):
        self.usage = usage
        super().__init__(message)


class RateLimited(LlmFailure):
    """429. `retry_after_s` None: the provider did not say."""

    outcome = "rate_limited"
    billable = False

    def __init__(self, message: str, retry_after_s: float | None = None):
        self.retry_after_s = retry_after_s
        super().__init__(message)


class ContextTooLong(LlmFailure):
    """400 because the prompt does not fit the model: a smaller one may."""

    outcome = "context_too_long"
    billable = False


class KeyRefused(LlmFailure):
    """401 with every available key."""

    outcome = "key_refused"
    billable = False


class Refused(LlmFailure):
    """Any other 3xx or 4xx: the same request will fail in the same way."""

    outcome = "refused"
    billable = False


class ProviderDown(LlmFailure):
    """5xx, no connection, or no room in the pool. `retry_after_s` None: the provider did not say."""

    outcome = "provider_down"
    billable = False

    def __init__(self, message: str, retry_after_s: float | None = None):
        self.retry_after_s = retry_after_s
        super().__init__(message)


class TimedOut(LlmFailure):
    """No answer, or not the whole of it, in time."""

    outcome = "timed_out"


class BadAnswer(LlmFailure):
    """200, but not what the protocol says: cut off, HTML, null, too large, a chunk that is no JSON."""

    outcome = "bad_answer"
