"""A caller's program on the installed wheel: every call of both clients. Run by tests/clients/test_wheel.py as
`wheel_caller.py HOST:PORT SECONDS`, the last the deadline of its calls; prints what it saw as one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from importlib.metadata import version

import recserv
from recserv.client import AsyncRecommendationClient, CallFailed, RecommendationClient
from recserv.errors import InvalidInput
from recserv.types import Event, EventType, ExplainMode, RecommendQuery, ShopperKey

TARGET, TIMEOUT_S = sys.argv[1], float(sys.argv[2])
PACKAGES = ("grpcio", "grpcio-status", "googleapis-common-protos", "protobuf", "msgspec")


def _event(session: str, event_type: EventType = EventType.VIEW) -> Event:
    return Event(event_id=uuid.uuid4().hex, event_type=event_type, session_id=session, item_id="item-1")


def _asked(session: str) -> RecommendQuery:
    return RecommendQuery(session_id=session, page_size=3, explain=ExplainMode.LLM_ASYNC, return_items=True)


def _batch_of_two(session: str) -> list[RecommendQuery]:
    return [RecommendQuery(session_id=session), RecommendQuery(session_id=session, page_size=101)]


def _named(answers: list) -> list[str]:
    return [answer.code if isinstance(answer, CallFailed) else "OK" for answer in answers]


def called() -> dict[str, object]:
    session = uuid.uuid4().hex
    with RecommendationClient(TARGET, timeout_s=TIMEOUT_S) as client:
        seen: dict[str, object] = {"session": session, "ingest": client.ingest(_event(session)).status.name}
        batch = client.ingest_batch([_event(session), _event(session, EventType.UNSPECIFIED)])
        seen["ingest batch"] = _named(batch)
        with client.event_stream() as stream:
            seen["stream"] = stream.send(_event(session)).result(TIMEOUT_S).status.name
        answer = client.recommend(_asked(session))
        seen["recommend"] = [(result.item_id, result.item is not None) for result in answer.results]
        seen["recommend batch"] = _named(client.recommend_batch(_batch_of_two(session)))
        seen["context"] = client.context(ShopperKey(session_id=session)).event_count
        seen["explanations"] = len(client.explanations(answer.explanation_token).explanations)
        watched = client.watch_explanations(answer.explanation_token, timeout_s=TIMEOUT_S)
        seen["watched"] = sorted({explanation.item_id for explanation in watched})
        try:
            client.recommend(RecommendQuery(page_size=101))
        except InvalidInput as error:
            seen["bad request"] = [(one.field, one.reason) for one in error.violations]
    return seen


async def called_async() -> dict[str, object]:
    session = uuid.uuid4().hex
    async with AsyncRecommendationClient(TARGET, timeout_s=TIMEOUT_S) as client:
        seen: dict[str, object] = {"session": session, "ingest": (await client.ingest(_event(session))).status.name}
        batch = await client.ingest_batch([_event(session), _event(session, EventType.UNSPECIFIED)])
        seen["ingest batch"] = _named(batch)
        async with client.event_stream() as stream:
            seen["stream"] = (await (await stream.send(_event(session)))).status.name
        answer = await client.recommend(_asked(session))
        seen["recommend"] = [(result.item_id, result.item is not None) for result in answer.results]
        seen["recommend batch"] = _named(await client.recommend_batch(_batch_of_two(session)))
        seen["context"] = (await client.context(ShopperKey(session_id=session))).event_count
        seen["explanations"] = len((await client.explanations(answer.explanation_token)).explanations)
        watched = client.watch_explanations(answer.explanation_token, timeout_s=TIMEOUT_S)
        seen["watched"] = sorted({explanation.item_id async for explanation in watched})
        try:
            await client.recommend(RecommendQuery(page_size=101))
        except InvalidInput as error:
            seen["bad request"] = [(one.field, one.reason) for one in error.violations]
    return seen


def main() -> None:
    versions = {name: version(name) for name in PACKAGES}
    seen = {"from": recserv.__file__, "versions": versions, "sync": called(), "async": asyncio.run(called_async())}
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
