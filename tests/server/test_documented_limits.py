"""The limits that the contract's comments state are those that the server keeps."""

from __future__ import annotations

import re

import pytest

from recserv import types
from recserv.config import Settings
from recserv.pipeline import explain, shopper
from recserv.server import validate
from recserv.server.call import MESSAGE_BYTES_MAX
from recserv.stores.base import EVENT_AHEAD_MS_MAX
from tests.stubs import contract_text

CONTRACT = contract_text()
MAPS = [f"At most {validate.MAP_ENTRIES_MAX} entries", f"values of at most {validate.MAP_VALUE_BYTES_MAX} bytes"]

STATED = {
    "service RecommendationService": [
        f"at most {types.ID_BYTES_MAX} bytes",
        f"at most {validate.MAP_ENTRIES_MAX} entries",
        f"each value at most {validate.MAP_VALUE_BYTES_MAX} bytes",
        f"more than {MESSAGE_BYTES_MAX // 2**20} MiB ({MESSAGE_BYTES_MAX} bytes)",
    ],
    "rpc BatchRecommend(": [f"Up to {types.BATCH_REQUESTS_MAX} "],
    "rpc BatchIngestEvents(": [f"up to {types.BATCH_EVENTS_MAX} "],
    "rpc StreamEvents(": [f"up to {types.BATCH_EVENTS_MAX} "],
    "string event_id = 1;\n  // Required.": [f"{Settings(model='m').id_retention_hours:g} hours"],
    "string search_query =": [f"at most {validate.QUERY_BYTES_MAX} bytes"],
    "google.protobuf.Timestamp event_time =": [f"At most {EVENT_AHEAD_MS_MAX // 60_000} minutes ahead"],
    "repeated string impression_item_ids =": [f"At most {validate.IMPRESSIONS_MAX}."],
    "map<string, string> properties =": MAPS,
    "map<string, string> user_attributes =": MAPS,
    "repeated Event context_events =": [f"at most {types.SESSION_EVENTS_MAX})"],
    "repeated string anchor_item_ids =": [f"at most {types.ANCHORS_MAX})"],
    "repeated string candidate_item_ids =": [f"at most {types.CANDIDATES_MAX})"],
    "int32 page_size =": [f"0 means {types.PAGE_SIZE_DEFAULT}; at most {types.PAGE_SIZE_MAX}."],
    "repeated string exclude_item_ids =": [f"At most {types.EXCLUSIONS_MAX};"],
    "repeated RecommendRequest requests =": [f"1 to {types.BATCH_REQUESTS_MAX}."],
    "RecommendRequest request =": [f"At most {types.WATCH_BYTES_MAX} bytes"],
    "repeated string recent_item_ids =": [f"at most {shopper.RECENT_ITEMS_MAX}."],
    "repeated string recent_searches =": [f"at most {shopper.RECENT_SEARCHES_MAX}."],
    "repeated string cart_item_ids =": [f"at most {types.CART_ITEMS_MAX}."],
    "repeated string purchased_item_ids =": [f"at most {shopper.PURCHASED_ITEMS_MAX}."],
    "repeated CategoryWeight category_weights =": [f"at most {shopper.CATEGORIES_MAX}."],
    "repeated Reason reasons =": [f"at most {explain.REASONS_MAX}."],
    "string event_id = 1;\n  // Always set.": [f"first {types.ID_BYTES_MAX} characters"],
}


def comment_before(declaration: str) -> str:
    """The lines of comment that stand right above it, as one line of text."""
    assert CONTRACT.count(declaration) == 1, declaration
    above = CONTRACT[: CONTRACT.index(declaration)].rstrip(" ")
    found = re.search(r"((?:[ ]*//.*\n)+)\Z", above)
    assert found is not None, f"no comment above {declaration}"
    return " ".join(line.strip().removeprefix("//").strip() for line in found[1].splitlines())


@pytest.mark.parametrize("declaration", STATED)
def test_a_limit_is_stated_where_it_holds(declaration: str) -> None:
    comment = comment_before(declaration)
    assert [text for text in STATED[declaration] if text not in comment] == [], comment


@pytest.mark.parametrize("message", ["BatchIngestEventsRequest", "StreamEventsRequest"])
def test_the_size_of_a_batch_of_events_is_stated(message: str) -> None:
    assert f"message {message} {{\n  // 1 to {types.BATCH_EVENTS_MAX}.\n" in CONTRACT
