from __future__ import annotations

import pytest

from recserv.commands.tables import movement, source_label, title_of
from recserv.types import Item, Result, Source


def _result(rank: int, **changes: object) -> Result:
    fields = {"item_id": "a", "score": 1.0, "rank": rank, "source": Source.POPULAR, **changes}
    return Result(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "shown"),
    [({}, ""), ({"b": 1}, "new"), ({"a": 3}, "="), ({"a": 5}, "+2"), ({"a": 1}, "-2")],
)
def test_a_result_shows_how_it_moved_since_the_last_list(before: dict[str, int], shown: str) -> None:
    assert movement(_result(3), before).plain == shown


def test_a_product_goes_by_its_title_else_by_its_id() -> None:
    assert title_of(_result(1)) == "a"
    assert title_of(_result(1, item=Item(item_id="a", title="Mug"))) == "Mug"


def test_every_source_has_a_label() -> None:
    labels = [source_label(source) for source in Source if source is not Source.UNSPECIFIED]
    assert "unknown" not in labels
    assert len(set(labels)) == len(labels)
