"""A caller's program: it knows the server's address and the stubs that it generated itself, nothing of recserv.

Run by tests/test_foreign_client.py as `foreign_client.py STUBS_DIR HOST:PORT SECONDS`, the last the deadline of
its calls; prints what it saw as one JSON object.
"""

from __future__ import annotations

import json
import sys

sys.path.insert(0, sys.argv[1])

import grpc

from recserv.v1 import context_pb2, events_pb2, recommendation_pb2, recommendation_service_pb2_grpc

TIMEOUT_S = float(sys.argv[3])
SESSION = "foreign-1"
SEARCHER = "foreign-2"


class Shopper:
    def __init__(self, stub: recommendation_service_pb2_grpc.RecommendationServiceStub, session: str):
        self._stub, self._session = stub, session
        self._events = 0

    def does(self, event_type: str, **fields: object) -> dict[str, object]:
        self._events += 1
        return self.sends(f"event-{self._events}", event_type, **fields)

    def sends(self, event_id: str, event_type: str, **fields: object) -> dict[str, object]:
        event = events_pb2.Event(event_id=event_id, event_type=event_type, session_id=self._session, **fields)
        try:
            answer = self._stub.IngestEvent(events_pb2.IngestEventRequest(event=event), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return {"code": error.code().name, "details": error.details()}
        return {
            "code": "OK",
            "status": events_pb2.IngestStatus.Name(answer.status),
            "token": bool(answer.consistency_token),
        }

    def sees(self, **fields: object) -> list[dict[str, object]]:
        request = recommendation_pb2.RecommendRequest(
            session_id=self._session, page_size=10, return_items=True, **fields
        )
        answer = self._stub.Recommend(request, timeout=TIMEOUT_S)
        assert not answer.degraded, answer
        return [
            {
                "item": result.item_id,
                "title": result.item.title,
                "source": recommendation_pb2.Source.Name(result.source),
                "because": [item for reason in result.reasons for item in reason.because_item_ids],
                "texts": [reason.text for reason in result.reasons],
                "reasons": [recommendation_pb2.ReasonType.Name(reason.type) for reason in result.reasons],
            }
            for result in answer.results
        ]


def only_searches(shopper: Shopper) -> dict[str, object]:
    """A search for what a product is called by, and nothing else in the session."""
    cold = shopper.sees()
    query = str(cold[0]["title"]).split()[1]
    search = shopper.does("EVENT_TYPE_SEARCH", search_query=query)
    return {"cold": cold, "query": query, "search": search, "after": shopper.sees()}


def main() -> None:
    with grpc.insecure_channel(sys.argv[2]) as channel:
        stub = recommendation_service_pb2_grpc.RecommendationServiceStub(channel)
        shopper = Shopper(stub, SESSION)
        seen: dict[str, object] = {"stubs": recommendation_pb2.__file__}
        seen["cold"] = cold = shopper.sees()
        viewed, searched = cold[0], cold[-1]
        seen["view"] = shopper.does("EVENT_TYPE_VIEW", item_id=viewed["item"])
        seen["after view"] = after_view = shopper.sees()
        seen["search"] = shopper.does("EVENT_TYPE_SEARCH", search_query=str(searched["title"]))
        seen["after search"] = shopper.sees()
        carted = next(row["item"] for row in after_view if row["item"] != viewed["item"])
        seen["carted"] = carted
        seen["add to cart"] = shopper.does("EVENT_TYPE_ADD_TO_CART", item_id=carted)
        seen["after add to cart"] = shopper.sees()
        seen["purchase"] = shopper.sends("buy", "EVENT_TYPE_PURCHASE", item_id=carted, quantity=2, value=4.5)
        seen["after purchase"] = shopper.sees(exclude_purchased=True)
        seen["same again"] = shopper.sends("buy", "EVENT_TYPE_PURCHASE", item_id=carted, quantity=2, value=4.5)
        seen["same id, other body"] = shopper.sends("buy", "EVENT_TYPE_PURCHASE", item_id=carted, quantity=3, value=4.5)
        context = stub.GetContext(context_pb2.GetContextRequest(session_id=SESSION), timeout=TIMEOUT_S)
        seen["context"] = {
            "recent": list(context.recent_item_ids),
            "searches": list(context.recent_searches),
            "cart": list(context.cart_item_ids),
            "purchased": list(context.purchased_item_ids),
            "events": context.event_count,
        }
        seen["searcher"] = only_searches(Shopper(stub, SEARCHER))
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    main()
