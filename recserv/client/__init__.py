"""Clients for Python services: `recserv.types` in, `recserv.types` out, one exception for whatever goes wrong.

Synchronous:

    with RecommendationClient("127.0.0.1:50051") as client:
        client.ingest(Event(event_id="1", event_type=EventType.VIEW, session_id="s", item_id="sku-1"))
        for result in client.recommend(RecommendQuery(session_id="s"), timeout_s=0.2).results:
            print(result.rank, result.item_id)

asyncio, two servers; events by the stream, each acknowledged exactly once however often a server restarts:

    async with AsyncRecommendationClient(["10.0.0.1:50051", "10.0.0.2:50051"]) as client:
        async with client.event_stream() as stream:
            acknowledged = [await stream.send(event) for event in events]
        answer = await client.recommend(RecommendQuery(session_id="s", explain=ExplainMode.LLM_ASYNC))
        async for explanation in client.watch_explanations(answer.explanation_token):
            print(explanation.item_id, explanation.text)

`watch_recommendations` of both gives the list again whenever an event changed it, over streams that break, for as long
as the caller likes.

Every other call has a deadline. Calls that a server turned away, or that met one that restarts, are retried inside it
(options.py says which and how often). `CallFailed` is raised for all that is left, with the status, the fields that the
server complained of and its delay to retry after; its subclasses are errors of recserv.errors as well.
"""

from __future__ import annotations

from recserv.client.aio import AsyncRecommendationClient
from recserv.client.aio_event_stream import AsyncEventStream
from recserv.client.aio_watch import AsyncRecommendationWatch
from recserv.client.event_stream import EventStream
from recserv.client.failures import CallFailed
from recserv.client.options import ClientOptions, StreamOptions
from recserv.client.sync import RecommendationClient
from recserv.client.watch import RecommendationWatch
from recserv.client.wire import Explanations, Ingested, recommend_request

__all__ = [
    "AsyncEventStream",
    "AsyncRecommendationClient",
    "AsyncRecommendationWatch",
    "CallFailed",
    "ClientOptions",
    "EventStream",
    "Explanations",
    "Ingested",
    "RecommendationClient",
    "RecommendationWatch",
    "StreamOptions",
    "recommend_request",
]
