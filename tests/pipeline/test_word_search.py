"""A search: first what holds its words, then what goes with it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from recserv.model.words import item_words, tokens
from recserv.types import (
    DegradedReason,
    Event,
    EventType,
    Reason,
    ReasonType,
    Recommendation,
    RecommendQuery,
    ShopperState,
    Source,
)
from tests.pipeline.support import FakeStore, ids, no_hurry, session, viewed


def search(text: str) -> Event:
    return Event(event_type=EventType.SEARCH, search_query=text)


async def found(pipeline: Any, *events: Event, **fields: Any) -> Recommendation:
    answer: Recommendation = await pipeline().recommend(RecommendQuery(context_events=events, **fields), no_hurry())
    return answer


class Catalogue:
    """What is held by whom, the slow way."""

    def __init__(self, engine: Any):
        self.words = {item: item_words(engine.items.get(at)) for at, item in enumerate(engine.items.ids)}
        available = engine.snapshot.available
        self.available = {item for at, item in enumerate(engine.items.ids) if available[at]}

    def holders(self, text: str) -> set[str]:
        """Of every word."""
        return {item for item in self.available if set(tokens(text)) <= self.words[item]}

    def rarity(self, item: str, text: str) -> float:
        """Of the words of a text that an item holds."""
        held = set(tokens(text)) & self.words[item]
        counts = [sum(word in words for words in self.words.values()) for word in held]
        return sum(math.log((1 + len(self.words)) / (1 + count)) for count in counts)


@pytest.fixture
def catalogue(engine: Any) -> Catalogue:
    return Catalogue(engine)


QUERIES = ["kettle", "KETTLES!", "red kettle", "kettle, red", "wooden lighting lamps", "steel novel 67", "red xyzzy"]


@pytest.mark.parametrize("text", QUERIES)
@pytest.mark.parametrize("before", [(), viewed("item-5", "item-9")])
async def test_what_holds_every_word_comes_first_then_what_holds_the_rarer_ones(
    pipeline: Any, catalogue: Catalogue, text: str, before: tuple[Event, ...]
) -> None:
    answer = await found(pipeline, *before, search(text), page_size=100)
    whole = catalogue.holders(text)
    assert set(ids(answer)[: len(whole)]) == whole
    held = [catalogue.rarity(item, text) for item in ids(answer)]
    assert held == sorted(held, reverse=True)
    assert held[0] > 0
    scores = [result.score for result in answer.results]
    assert scores == sorted(scores, reverse=True)
    assert all(result.source == Source.CONTEXT_VECTOR for result in answer.results[: max(len(whole), 1)])
    assert answer.degraded_reasons == ()


async def test_after_what_holds_the_words_comes_what_is_near_them(pipeline: Any, engine: Any) -> None:
    answer = await found(pipeline, search("kettle"), page_size=100)
    others = [r for r in answer.results if "kettle" not in engine.items.title(engine.items.row(r.item_id))]
    assert [reason.text for reason in others[0].reasons] == ['Goes with your search "kettle"']


@pytest.mark.parametrize("text", QUERIES)
async def test_a_match_is_claimed_of_what_holds_every_word_and_of_nothing_else(
    pipeline: Any, catalogue: Catalogue, text: str
) -> None:
    for result in (await found(pipeline, search(text), page_size=100)).results:
        said = ReasonType.MATCHES_SEARCH in {reason.type for reason in result.reasons}
        assert said == (result.item_id in catalogue.holders(text))


async def test_what_holds_half_of_the_words_says_which(pipeline: Any, engine: Any) -> None:
    answer = await found(pipeline, search("Red submarines"))
    for result in answer.results:
        assert "Red" in engine.items.title(engine.items.row(result.item_id))
        reason = Reason(ReasonType.SIMILAR_TO, (), 'Has "red" of your search "Red submarines"')
        assert result.reasons[0] == reason


async def test_a_stored_search_is_answered_as_one_of_the_request_is(pipeline: Any) -> None:
    state = session((EventType.VIEW, "item-5"), (EventType.SEARCH, ""))
    events = (state.events[0], state.events[1].__class__(*_with_query(state.events[1], "red kettle")))
    stored = FakeStore(ShopperState(session=type(state)(events, 2)))
    by_store = await pipeline(stored).recommend(RecommendQuery(session_id="s"), no_hurry())
    assert ids(by_store) == ids(await found(pipeline, *viewed("item-5"), search("red kettle")))


def _with_query(event: Any, text: str) -> list[Any]:
    return [text if name == "search_query" else getattr(event, name) for name in event.__struct_fields__]


async def test_a_search_is_over_once_the_shopper_has_turned_to_an_item(pipeline: Any, catalogue: Catalogue) -> None:
    before = await found(pipeline, search("kettle"))
    assert set(ids(before)) <= catalogue.holders("kettle")
    turned = await found(pipeline, search("kettle"), *viewed("item-5"))
    assert not set(ids(turned)) <= catalogue.holders("kettle")
    anchored = await found(pipeline, search("kettle"), anchor_item_ids=("item-5",))
    assert not set(ids(anchored)) <= catalogue.holders("kettle")


async def test_whoever_throws_out_a_result_is_still_searching(pipeline: Any, catalogue: Catalogue) -> None:
    first = ids(await found(pipeline, search("kettle")))[0]
    dislike = Event(event_type=EventType.DISLIKE, item_id=first)
    after = ids(await found(pipeline, search("kettle"), dislike))
    assert set(after) <= catalogue.holders("kettle") - {first}


async def test_a_category_exclusions_and_candidates_hold_for_a_search_too(pipeline: Any, catalogue: Catalogue) -> None:
    first = ids(await found(pipeline, search("kettle")))
    without = ids(await found(pipeline, search("kettle"), exclude_item_ids=tuple(first)))
    assert set(without) <= catalogue.holders("kettle") - set(first)
    toys = await found(pipeline, search("kettle"), category="Toys", page_size=100)
    whole = catalogue.holders("kettle toys")
    assert set(ids(toys)[: len(whole)]) == whole
    assert all("toy" in catalogue.words[item] for item in ids(toys))
    requested = ("item-1", first[0], "item-3", first[1])
    assert set(ids(await found(pipeline, search("kettle"), candidate_item_ids=requested))[:2]) == {first[0], first[1]}


async def test_a_search_without_an_index_of_vectors_still_finds_what_holds_its_words(
    pipeline: Any, engine: Any, catalogue: Catalogue
) -> None:
    engine.search = None
    answer = await found(pipeline, search("kettle"))
    assert set(ids(answer)) <= catalogue.holders("kettle")
    assert answer.degraded_reasons == (DegradedReason.INDEX_UNAVAILABLE,)


async def test_an_index_of_words_that_fails_is_a_source_that_is_missing(
    pipeline: Any, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.word_search, "top", lambda *arguments: 1 / 0)
    answer = await found(pipeline, search("kettle"))
    assert answer.degraded_reasons == (DegradedReason.SOURCE_UNAVAILABLE,)
    assert len(answer.results) == 10


async def test_a_word_without_a_vector_is_found_all_the_same(pipeline: Any, engine: Any) -> None:
    engine.snapshot.words._row.pop("67")
    try:
        answer = await found(pipeline, search("67"))
    finally:
        engine.snapshot.words._row["67"] = engine.snapshot.words.words.index("67")
    assert ids(answer)[0] == "item-67"
    assert answer.results[0].reasons[0].text == 'Matches your search "67"'


def test_a_query_is_looked_up_not_looked_through(engine: Any) -> None:
    query = engine.word_search.query("red red kettles zzz")
    counts = np.diff(engine.snapshot.search_word_offsets)[list(query.words)]
    assert len(query.words) == 2
    assert counts.tolist() == sorted(counts.tolist())
    assert list(query.rarity) == sorted(query.rarity, reverse=True)
    assert engine.word_search.query("zzz") is None
    assert engine.word_search.query("") is None
    assert len(engine.word_search.query(" ".join(f"{n}" for n in range(100))).words) <= 16


@pytest.mark.parametrize("text", QUERIES)
def test_the_index_knows_of_every_item_which_words_it_holds(engine: Any, catalogue: Catalogue, text: str) -> None:
    words = tokens(text)
    held = engine.word_search.holding(words, np.arange(len(engine.items), dtype=np.int32))
    expected = [[word in catalogue.words[item] for word in words] for item in engine.items.ids]
    assert held.tolist() == expected


async def test_no_item_is_cut_into_words_by_a_request(
    pipeline: Any, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request of a session that holds a search would cut those of its whole page again."""
    text = "red kettle"
    monkeypatch.setattr("recserv.model.items.ItemTable.get", lambda table, at: 1 / 0)
    answer = await found(pipeline, search(text), *viewed("item-5"), page_size=100)
    assert answer.degraded_reasons == ()
    matching = {r.item_id for r in answer.results if any(x.type == ReasonType.MATCHES_SEARCH for x in r.reasons)}
    assert matching == catalogue.holders(text) & set(ids(answer))
    assert matching


async def test_a_request_without_a_search_asks_for_no_words(
    pipeline: Any, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "word_search", None)
    answer = await found(pipeline, *viewed("item-5", "item-9"))
    assert (answer.degraded_reasons, len(answer.results)) == ((), 10)
