"""What a store reports while it runs. The defaults do nothing; the application overrides what it measures."""

from __future__ import annotations


class StoreHooks:
    """Called on the event loop's thread, after the fact. They must be quick and must not raise."""

    def on_commit(self, events: int, seconds: float) -> None:
        """A group of `events` new events became durable; `seconds` from its first statement to the end of the sync."""

    def on_unavailable(self, events: int, cause: str) -> None:
        """`events` were answered UNAVAILABLE; `cause` is one of a few fixed words, fit for a metric's label."""

    def on_sessions_evicted(self, sessions: int) -> None:
        """Live sessions were forgotten before their time because the bound on their number was reached."""

    def on_swept(self, ids: int, log_rows: int, profiles: int) -> None:
        """A round of the sweep removed this much from the file."""

    def on_read_failed(self, cause: str) -> None:
        """A read was StoreUnavailable; `cause` is one of a few fixed words."""

    def on_undecodable(self, kind: str, records: int) -> None:
        """That many stored records (`kind`: sessions, profiles, ids, heads) were not readable and count as none."""
