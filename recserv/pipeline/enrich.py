"""Explanations under a token: what a Recommend with EXPLAIN_MODE_LLM_ASYNC leaves behind for those who poll or watch.

For now the texts are the template reasons, final from the start. The board is bounded in number and age; it lives in
this process, so a token is known to the process that gave it.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator

from recserv.errors import NotFound
from recserv.resilience.deadline import MonotonicClock
from recserv.types import Explanation, ExplanationState, Result

TOKENS_MAX = 10_000
TOKEN_TTL_S = 600.0


class ExplanationBoard:
    def __init__(
        self, *, tokens_max: int = TOKENS_MAX, ttl_s: float = TOKEN_TTL_S, clock: MonotonicClock = time.monotonic
    ):
        self._tokens_max = tokens_max
        self._ttl_s = ttl_s
        self._clock = clock
        self._entries: OrderedDict[tuple[str, str], tuple[float, tuple[Explanation, ...]]] = OrderedDict()

    def post(self, tenant: str, results: tuple[Result, ...]) -> str:
        """Keeps the results' explanations; returns an unguessable token for them."""
        token = secrets.token_urlsafe(18)
        texts = tuple(Explanation(r.item_id, r.explanation, ExplanationState.TEMPLATE) for r in results)
        now = self._clock()
        self._entries[tenant, token] = (now + self._ttl_s, texts)
        self._drop(now)
        return token

    def explanations(self, tenant: str, token: str) -> tuple[Explanation, ...]:
        """In the order of the results. NotFound for a token that never was, is too old, or is another tenant's."""
        expires_s, texts = self._entries.get((tenant, token), (0.0, ()))
        if expires_s <= self._clock():
            raise NotFound("explanation_token is unknown or has expired")
        return texts

    async def watch(self, tenant: str, token: str) -> AsyncIterator[Explanation]:
        """Each explanation as it becomes final, then the end. Raises NotFound as `explanations` does."""
        for explanation in self.explanations(tenant, token):
            yield explanation

    def _drop(self, now: float) -> None:
        """Entries are in order of age: the oldest go first, whether expired or too many."""
        while self._entries:
            key, (expires_s, _) = next(iter(self._entries.items()))
            if expires_s > now and len(self._entries) <= self._tokens_max:
                return
            del self._entries[key]
