"""A retry budget: second attempts are a bounded share of first ones, so that retries never become the load."""

from __future__ import annotations


class RetryBudget:
    """A token bucket: each request adds `share` of a token, each retry takes a whole one. `tokens_max` bounds what
    quiet times can accumulate. With `saved` 0 it starts empty, and retries / requests <= share holds from the first
    request on; else retries <= share * requests + saved does.
    """

    __slots__ = ("_share", "_tokens", "_tokens_max")

    def __init__(self, share: float = 0.1, tokens_max: float = 10.0, saved: float = 0.0):
        self._share, self._tokens_max = share, tokens_max
        self._tokens = saved

    def request(self) -> None:
        """Records a first attempt."""
        if self._tokens < self._tokens_max:
            self._tokens += self._share

    def take(self) -> bool:
        """Whether a retry may be made; if so, takes its token."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
