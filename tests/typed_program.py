"""A program as a user writes it, for the type checker: `mypy` looks at it with the package (see pyproject.toml).

Each `type: ignore` names an error that a user must be told of. Strict mypy reports one that is not needed, so a call
that would no longer be checked fails here too. Nothing in it is run.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from typing import assert_type

import recserv
from recserv import (
    AsyncRecommendationClient,
    CallFailed,
    ClientOptions,
    DegradedReason,
    Event,
    EventType,
    ExplainMode,
    Explanation,
    Ingested,
    InvalidInput,
    Overloaded,
    Reason,
    Recommendation,
    RecommendationClient,
    RecommendQuery,
    Result,
    ShopperContext,
    ShopperKey,
    Source,
    StreamOptions,
)
from recserv.v1 import IngestEventRequest


def viewed(item_id: str) -> Event:
    return Event(event_id=str(uuid.uuid4()), event_type=EventType.VIEW, session_id="s1", item_id=item_id)


def shown(client: RecommendationClient) -> list[str]:
    assert_type(client.ingest(viewed("883404")), Ingested)
    answer = client.recommend(RecommendQuery(session_id="s1", exclude_purchased=True), timeout_s=0.2)
    assert_type(answer, Recommendation)
    assert_type(answer.results, tuple[Result, ...])
    assert_type(answer.degraded_reasons, tuple[DegradedReason, ...])
    for result in answer.results:
        assert_type(result.source, Source)
        assert_type(result.reasons, tuple[Reason, ...])
    return [result.item_id for result in answer.results]


def known(client: RecommendationClient) -> ShopperContext:
    return client.context(ShopperKey(session_id="s1"))


def failures(client: RecommendationClient) -> float | None:
    try:
        client.recommend(RecommendQuery())
    except InvalidInput as error:
        assert_type(error.violations, tuple[recserv.Violation, ...])
    except Overloaded as error:
        assert_type(error.retry_after_ms, int)
    except CallFailed as error:
        return assert_type(error.retry_after_s, float | None)
    return None


def texts(client: RecommendationClient, token: str) -> Iterator[Explanation]:
    yield from client.watch_explanations(token)


async def asynchronous(targets: list[str], events: list[Event]) -> AsyncIterator[str]:
    options = ClientOptions(attempts_max=2)
    async with AsyncRecommendationClient(targets, options=options) as client:
        async with client.event_stream(StreamOptions(group_max=10)) as stream:
            for acknowledged in [await stream.send(event) for event in events]:
                assert_type(await acknowledged, Ingested)
        answer = await client.recommend(RecommendQuery(session_id="s1", explain=ExplainMode.LLM_ASYNC))
        async for explanation in client.watch_explanations(answer.explanation_token):
            yield explanation.text


def on_the_wire(event: recserv.v1.Event) -> bytes:
    return IngestEventRequest(event=event).SerializeToString()


def what_a_checker_finds(client: RecommendationClient) -> None:
    client.recommend("s1")  # type: ignore[arg-type]
    client.recommend(RecommendQuery(session="s1"))  # type: ignore[call-arg]
    client.ingest(Event(event_id="1", event_type="view", session_id="s1"))  # type: ignore[arg-type]
    print(client.recommend(RecommendQuery()).items)  # type: ignore[attr-defined]
    print(recserv.RecommendClient)  # type: ignore[attr-defined]
    print(assert_type(recserv.__version__, str))
