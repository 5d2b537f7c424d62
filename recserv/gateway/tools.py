"""`/openapi-tools.json`: the few operations that a workflow needs, for systems that make a tool of each operation.

What such systems read is narrower than OpenAPI, Dify's custom tools above all: an absolute server URL; parameters and
bodies without references, flat and of scalars; names of letters, digits, `_` and `-`; every header parameter sent, even
without a value. So `/openapi.json` stays complete, and this is a separate document, with descriptions by which a
language model chooses. Names and types are the contract's; a test keeps the two in step.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from recserv import v1 as pb
from recserv.gateway.answers import JSON
from recserv.gateway.card import CARD_PATH, PAGE_SIZE, PAGE_SIZE_MAX, TITLE
from recserv.gateway.methods import UNARY
from recserv.gateway.openapi import SHOP_PREFIX
from recserv.version import installed

TOOLS_PATH = "/openapi-tools.json"
_HOST = re.compile(r"([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")
_STRING: dict[str, Any] = {"type": "string"}

_SESSION = ("session_id", _STRING, "The visit: the same id for all that one shopper does in it.")
_USER = ("user_id", _STRING, "The shopper's id in the shop, if the shopper is known.")
_CATEGORY = ("category", _STRING, "Only products of this category; leave it out for all of them.")
_ANCHOR = ("anchor_item_ids", _STRING, "Recommend what goes with the product of this id; leave it out for the visit's.")
_BOUGHT = ("exclude_purchased", {"type": "boolean", "default": False}, "Leave out what the shopper has bought.")
_EVENT_TYPES = list(pb.EventType.keys())[1:]
_EXPLAIN = ["EXPLAIN_MODE_REASONS", "EXPLAIN_MODE_NONE", "EXPLAIN_MODE_LLM_ASYNC"]
_EVENT = [
    (
        "event_id",
        _STRING,
        "Any id that is new for each event. Send the same one again to retry without counting twice.",
    ),
    ("event_type", {**_STRING, "enum": _EVENT_TYPES}, f"What was done, one of: {', '.join(_EVENT_TYPES)}."),
    _SESSION,
    _USER,
    ("item_id", _STRING, "The product's id. Needed for every type but EVENT_TYPE_SEARCH."),
    ("search_query", _STRING, "What was searched for. Needed for EVENT_TYPE_SEARCH."),
    ("quantity", {"type": "integer", "minimum": 0}, "How many units; left out it is one."),
    ("value", {"type": "number", "minimum": 0}, "The money of the whole line, or the stars of EVENT_TYPE_RATE."),
    ("currency_code", _STRING, "Of value: three letters such as EUR."),
    ("recommendation_id", _STRING, "recommendationId of the recommendations that led to this, if any did."),
]
_RECOMMENDATIONS = [
    _SESSION,
    _USER,
    ("page_size", {"type": "integer", "minimum": 1, "maximum": 100, "default": 5}, "How many products at most."),
    _CATEGORY,
    _ANCHOR,
    _BOUGHT,
    ("return_items", {"type": "boolean", "default": True}, "With title, price and brand of each product."),
    (
        "explain",
        {**_STRING, "enum": _EXPLAIN, "default": _EXPLAIN[0]},
        "EXPLAIN_MODE_REASONS: short reasons. EXPLAIN_MODE_LLM_ASYNC: also an explanationToken for get_explanations.",
    ),
]
_CARD = [
    _SESSION,
    _USER,
    ("title", {**_STRING, "default": TITLE}, "The heading of the card."),
    (
        "page_size",
        {"type": "integer", "minimum": 1, "maximum": PAGE_SIZE_MAX, "default": PAGE_SIZE},
        "How many products at most.",
    ),
    _CATEGORY,
    _ANCHOR,
    _BOUGHT,
    (
        "fragment",
        {"type": "boolean", "default": True},
        "true: HTML to put into an answer as it is. false: a whole page with its style.",
    ),
]
_Field = tuple[str, dict[str, Any], str]


def tools_document(server_url: str) -> dict[str, Any]:
    """`server_url`: absolute, without a slash at its end."""
    explanations = UNARY["GetExplanations"].path
    token: _Field = ("explanation_token", _STRING, "explanationToken of get_recommendations.")
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "recserv",
            "version": installed(),
            "description": "Product recommendations of a shop: what a shopper does goes in, ranked products come out.",
        },
        "servers": [{"url": server_url}],
        "paths": {
            f"{SHOP_PREFIX}/events": {
                "post": _operation(
                    "record_event",
                    "Tell the shop what a shopper did: looked at a product, put it into the cart, bought it, searched."
                    " The next recommendations know of it.",
                    "status, and consistencyToken.",
                    body=_body(_EVENT, ("event_id", "event_type", "session_id")),
                )
            },
            f"{SHOP_PREFIX}/context": {
                "get": _operation(
                    "get_context",
                    "What the shop knows of a visit: products seen lately, searches, the cart, purchases, and which"
                    " categories weigh most. Use it before you talk to a shopper.",
                    "recentItemIds, recentSearches, cartItemIds, purchasedItemIds, eventCount, categoryWeights; what"
                    " is empty is left out.",
                    parameters=_query([_SESSION, _USER], ("session_id",)),
                )
            },
            f"{SHOP_PREFIX}/recommendations": {
                "get": _operation(
                    "get_recommendations",
                    "The products to recommend now in a visit, best first, each with the reasons why. Use it when you"
                    " need the products themselves; to show them use get_card.",
                    "results, each with itemId, rank, source, reasons and item; degraded where it is no full answer.",
                    parameters=_query(_RECOMMENDATIONS, ("session_id",)),
                )
            },
            explanations: {
                "post": _operation(
                    "get_explanations",
                    "The longer texts that say why products were recommended, written after the recommendations were"
                    " made. Those whose state is EXPLANATION_STATE_PENDING come later: ask again.",
                    "explanations, each with itemId, text and state.",
                    body=_body([token], ("explanation_token",)),
                )
            },
            CARD_PATH: {
                "get": _operation(
                    "get_card",
                    "The recommended products of a visit as HTML that can be shown to the shopper as it is, with"
                    " prices and reasons.",
                    "HTML.",
                    "text/html",
                    parameters=_query(_CARD, ("session_id", "fragment")),
                )
            },
        },
    }


def _operation(name: str, description: str, answer: str, kind: str = JSON, **asked: Any) -> dict[str, Any]:
    schema = {"type": "object"} if kind == JSON else _STRING
    return {
        "operationId": name,
        "summary": description.partition(". ")[0].partition(": ")[0],
        "description": description,
        **{{"body": "requestBody"}.get(key, key): value for key, value in asked.items()},
        "responses": {
            "200": {"description": answer, "content": {kind: {"schema": schema}}},
            "default": {
                "description": "What went wrong, under error.message, each field with its place in error.details.",
                "content": {JSON: {"schema": {"type": "object"}}},
            },
        },
    }


def _query(fields: list[_Field], required: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "query", "required": name in required, "description": text, "schema": schema}
        for name, schema, text in fields
    ]


def _body(fields: list[_Field], required: tuple[str, ...]) -> dict[str, Any]:
    properties = {name: {**schema, "description": text} for name, schema, text in fields}
    schema = {"type": "object", "required": list(required), "properties": properties}
    return {"required": True, "content": {JSON: {"schema": schema}}}


def tools_route(public_url: str, prefix: str = "") -> Route:
    """`prefix`: before every path."""
    return Route(TOOLS_PATH, _tools(public_url, prefix), methods=["GET"])


def _tools(public_url: str, prefix: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        document = tools_document((public_url or asked_at(request)) + prefix)
        return Response(msgspec.json.encode(document), 200, None, JSON)

    return answer


def asked_at(request: Request) -> str:
    """The URL that the request was sent to, from its Host header if that is valid, else from its socket."""
    host = request.headers.get("host", "")
    if not _HOST.fullmatch(host):
        name, port = request.scope.get("server") or ("127.0.0.1", 80)
        host = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    return f"http://{host}"
