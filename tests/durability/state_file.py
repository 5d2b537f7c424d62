"""What a state file holds, read beside the server that owns it or after its end."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from recserv.stores.sqlite_file import open_reader
from recserv.stores.sqlite_log import select_log
from recserv.stores.sqlite_sweep import CounterRow, read_counters


class StateFile(NamedTuple):
    """`times`: how often each (session or user, event id) stands in the log."""

    times: Counter[tuple[str, str]]
    counters: list[CounterRow]

    def check(self) -> None:
        """Every event once, and the counters agree with the log."""
        assert {key: count for key, count in self.times.items() if count != 1} == {}
        assert [row for row in self.counters if row.accepted - row.swept != row.logged] == []
        assert sum(row.logged for row in self.counters) == self.times.total()


def read_state_file(path: Path) -> StateFile:
    """Of a server that has ended, or to which nobody sends events."""
    connection = open_reader(path)
    try:
        counters = read_counters(connection)
        events = [row.append.event for row in select_log(connection, "TRUE ORDER BY sequence", ())]
    finally:
        connection.close()
    return StateFile(Counter((event.session_id or event.user_id, event.event_id) for event in events), counters)
