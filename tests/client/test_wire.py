"""What the client says of a call outside its message."""

from __future__ import annotations

import pytest

from recserv.client.wire import call_metadata
from recserv.types import Priority, RecommendQuery


@pytest.mark.parametrize(
    ("priority", "said"),
    [(Priority.UNSPECIFIED, None), (Priority.LOW, "low"), (Priority.NORMAL, None), (Priority.HIGH, "high")],
)
def test_the_metadata_of_a_call_name_a_priority_that_is_not_normal(priority: Priority, said: str | None) -> None:
    assert list(call_metadata(RecommendQuery(priority=priority))) == (
        [] if said is None else [("x-recserv-priority", said)]
    )
