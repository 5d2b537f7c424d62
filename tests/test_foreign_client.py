"""The whole conversation of a caller in another process, with stubs that it generated afresh from protos/."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.patience import HANG_GUARD_S
from tests.stubs import generate_stubs

if TYPE_CHECKING:
    from recserv.app.server_process import ServerProcess

CLIENT = Path(__file__).parent / "foreign_client.py"


@pytest.fixture(scope="module")
def seen(recserv_server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the caller saw, step by step."""
    stubs = tmp_path_factory.mktemp("stubs")
    generate_stubs(stubs)
    # In a folder of its own and isolated (-I): neither this checkout's stubs nor its modules are in reach.
    client = subprocess.run(
        [sys.executable, "-I", str(CLIENT), str(stubs), recserv_server.target, str(HANG_GUARD_S)],
        cwd=stubs,
        capture_output=True,
        text=True,
        timeout=HANG_GUARD_S,
        check=False,
    )
    assert client.returncode == 0, client.stderr
    report: dict[str, Any] = json.loads(client.stdout)
    assert Path(report["stubs"]).is_relative_to(stubs)
    return report


def _items(rows: list[dict[str, Any]]) -> list[str]:
    return [row["item"] for row in rows]


def test_a_new_session_gets_popular_items_labelled_as_such(seen: dict[str, Any]) -> None:
    assert len(seen["cold"]) == 10
    assert {row["source"] for row in seen["cold"]} <= {"SOURCE_POPULAR", "SOURCE_TRENDING"}
    assert all(row["because"] == [] for row in seen["cold"])


@pytest.mark.parametrize("step", ["view", "search", "add to cart", "purchase"])
def test_every_event_is_accepted_with_a_consistency_token(seen: dict[str, Any], step: str) -> None:
    assert seen[step] == {"code": "OK", "status": "INGEST_STATUS_ACCEPTED", "token": True}


def test_after_a_view_the_list_changes_and_names_the_product_viewed(seen: dict[str, Any]) -> None:
    viewed = seen["cold"][0]
    assert _items(seen["after view"]) != _items(seen["cold"])
    personal = [row for row in seen["after view"] if row["because"]]
    assert personal, "nothing follows from the view"
    assert {item for row in personal for item in row["because"]} == {viewed["item"]}
    assert any(viewed["title"] in text for row in personal for text in row["texts"])


def test_the_search_is_part_of_the_context(seen: dict[str, Any]) -> None:
    assert seen["context"]["searches"] == [seen["cold"][-1]["title"]]


def test_a_search_alone_changes_the_very_next_list_to_what_was_searched_for(seen: dict[str, Any]) -> None:
    searcher = seen["searcher"]
    query, after = searcher["query"], searcher["after"]
    assert searcher["search"] == {"code": "OK", "status": "INGEST_STATUS_ACCEPTED", "token": True}
    assert all(row["source"] in {"SOURCE_POPULAR", "SOURCE_TRENDING"} for row in searcher["cold"])
    assert _items(after) != _items(searcher["cold"])
    assert after[0]["source"] == "SOURCE_CONTEXT_VECTOR"
    for row in after:
        # A match is claimed for those products alone that have the word.
        assert ("REASON_TYPE_MATCHES_SEARCH" in row["reasons"]) <= (query in row["title"].split())
    named = [row for row in after if "REASON_TYPE_MATCHES_SEARCH" in row["reasons"]]
    assert named
    assert all(any(f'"{query}"' in text for text in row["texts"]) for row in named)


def test_a_search_beside_a_view_changes_the_list_too(seen: dict[str, Any]) -> None:
    before, after = seen["after view"], seen["after search"]
    assert (_items(before), [row["texts"] for row in before]) != (_items(after), [row["texts"] for row in after])


def test_after_adding_to_the_cart_reasons_name_the_product_in_it(seen: dict[str, Any]) -> None:
    because = [row for row in seen["after add to cart"] if seen["carted"] in row["because"]]
    assert because
    assert any("cart" in text for row in because for text in row["texts"])


def test_the_purchased_product_is_gone_when_asked_for(seen: dict[str, Any]) -> None:
    assert seen["carted"] not in _items(seen["after purchase"])
    assert seen["after purchase"]
    assert seen["context"]["purchased"] == [seen["carted"]]
    assert seen["context"]["cart"] == []


def test_a_retry_is_a_duplicate_and_another_body_under_its_id_a_conflict(seen: dict[str, Any]) -> None:
    assert (seen["same again"]["code"], seen["same again"]["status"]) == ("OK", "INGEST_STATUS_DUPLICATE")
    assert seen["same id, other body"]["code"] == "ALREADY_EXISTS"
    assert seen["context"]["events"] == 4
