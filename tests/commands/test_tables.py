from __future__ import annotations

import pytest

from recserv.commands.tables import changes_lines, movement, results_lines, source_label, title_of
from recserv.types import Item, Reason, ReasonType, Result, Source


def _result(rank: int, **changes: object) -> Result:
    fields = {"item_id": "a", "score": 1.0, "rank": rank, "source": Source.POPULAR, **changes}
    return Result(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "shown"),
    [({"b": 1}, "new"), ({"a": 3}, "="), ({"a": 5}, "+2"), ({"a": 1}, "-2")],
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


REASON = "Often bought with GREEN TEA, 20 BAGS that you viewed"
RESULTS = [
    _result(rank, item_id=f"item-{rank}", item=Item(item_id=f"item-{rank}", title="A TITLE THAT GOES ON " * 4),
            reasons=(Reason(ReasonType.OFTEN_BOUGHT_WITH, ("x",), REASON),))
    for rank in (9, 10)
]  # fmt: skip


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_no_line_is_wider_than_the_console_and_the_reason_is_whole(width: int) -> None:
    for lines in (results_lines(RESULTS, width), changes_lines(RESULTS, {"item-9": 1}, width)):
        assert max(line.cell_len for line in lines) <= width
        assert sum(REASON in line.plain for line in lines) == len(RESULTS)


def test_where_it_is_wide_the_reason_ends_its_row_and_where_it_is_narrow_it_follows_below() -> None:
    assert len(results_lines(RESULTS, 200)) == 1 + len(RESULTS)
    assert len(results_lines(RESULTS, 80)) == 1 + 2 * len(RESULTS)
