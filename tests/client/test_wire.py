"""What the client says of a call outside its message."""

from __future__ import annotations

import msgspec
import pytest

from recserv.client.wire import call_metadata, recommendation
from recserv.server.convert import SharedResults, recommendation_to_wire
from recserv.types import Item, Priority, Recommendation, RecommendQuery, Result, Source


@pytest.mark.parametrize(
    ("priority", "said"),
    [(Priority.UNSPECIFIED, None), (Priority.LOW, "low"), (Priority.NORMAL, None), (Priority.HIGH, "high")],
)
def test_the_metadata_of_a_call_name_a_priority_that_is_not_normal(priority: Priority, said: str | None) -> None:
    assert list(call_metadata(RecommendQuery(priority=priority))) == (
        [] if said is None else [("x-recserv-priority", said)]
    )


def test_every_field_of_an_item_comes_back_as_the_server_sent_it() -> None:
    values = {str: "x", float: 1.5, bool: False, tuple[str, ...]: ("y", "z"), dict[str, str]: {"k": "v"}}
    fields = {field.name: values[field.type] for field in msgspec.structs.fields(Item)}
    item = Item(**fields)
    result = Result(item_id="x", score=1.0, rank=1, source=Source.POPULAR, item=item)
    answer = Recommendation(results=(result,), recommendation_id="r", model_version="m")
    assert recommendation(recommendation_to_wire(answer, SharedResults())).results[0].item == item
