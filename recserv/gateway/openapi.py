"""The OpenAPI document, made at start from the contract's descriptors and the comments of its files.

3.0.3, which every tool reads. Generated stubs carry no comments, so `comments.json` keeps them by full name; a test
compares it with protos/ as it does the stubs (see tests/test_stubs.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib import resources
from typing import Any

import msgspec
from google.protobuf.descriptor import FieldDescriptor

from recserv import v1 as pb
from recserv.gateway.calls import LAST_EVENT_ID, PRIORITY, REQUEST_ID, TIMEOUT
from recserv.gateway.card import CARD_PATH, PAGE_SIZE, PAGE_SIZE_MAX, TITLE
from recserv.gateway.methods import UNARY, WATCH_EXPLANATIONS, WATCH_RECOMMENDATIONS, Method
from recserv.version import installed

SHOP_PREFIX = "/api/v1"
WATCH_PATH = f"{SHOP_PREFIX}/watch"
LAST_EVENT_ID_PARAMETER = "last_event_id"
_EXPLANATION_EVENTS = (
    "Server-sent events: `explanation`, its data a WatchExplanationsResponse; `end` when all have been told; or"
    " `error`, its data an Error."
)
_WATCH_EVENTS = (
    "Server-sent events: `recommendations`, its id the resume token, its data a WatchRecommendationsResponse; or"
    " `error`, its data an Error, after which the stream ends. A reader comes back with the last id."
)
_JSON = "application/json"
_ERRORS = {
    400: "What was asked is wrong: each field with its place.",
    404: "Nothing is there under this path or token.",
    405: "The path is there, with other methods.",
    408: "The body did not come in time.",
    409: "The event id was used before with another body.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    429: "Too busy; Retry-After says when to try again.",
    500: "Something failed that should not.",
    501: "What was asked for is not built yet.",
    503: "The server, or its store, cannot be reached; Retry-After says when to try again.",
    504: "The deadline passed.",
}
_SCALARS: dict[int, dict[str, Any]] = {
    FieldDescriptor.CPPTYPE_STRING: {"type": "string"},
    FieldDescriptor.CPPTYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.CPPTYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.CPPTYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.CPPTYPE_INT32: {"type": "integer", "format": "int32"},
    # The JSON mapping writes them as strings: a number of JavaScript cannot hold them all.
    FieldDescriptor.CPPTYPE_INT64: {"type": "string", "format": "int64"},
}
_HEADERS = {
    "RequestId": (
        REQUEST_ID,
        {"type": "string"},
        "Comes back with the answer and stands in the logs; replaced if it has spaces or more than 128 characters.",
    ),
    "Timeout": (TIMEOUT, {"type": "integer", "minimum": 1}, "The deadline in milliseconds."),
    "Priority": (PRIORITY, {"type": "string", "enum": ["low", "normal", "high"]}, "Who goes first when it is busy."),
}
_STATUS = {
    "type": "object",
    "description": "google.rpc.Status.",
    "properties": {
        "code": {"type": "integer", "format": "int32", "description": "Of google.rpc.Code."},
        "message": {"type": "string", "description": "English, for people."},
        "details": {
            "type": "array",
            "description": "BadRequest, RetryInfo, ErrorInfo, each with its @type.",
            "items": {"type": "object", "additionalProperties": True},
        },
    },
}
_ERROR = {
    "type": "object",
    "description": "An error, as Google's APIs write google.rpc.Status.",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "description": "What went wrong.",
            "required": ["code", "status", "message", "details"],
            "properties": {
                **_STATUS["properties"],  # type: ignore[dict-item]
                "code": {"type": "integer", "description": "The HTTP status."},
                "status": {"type": "string", "description": "The name of the google.rpc.Code."},
            },
        }
    },
}


class _Schemas:
    """Components for the messages and enums that were referenced, and for those that they contain."""

    def __init__(self, comments: dict[str, str]):
        self.comments = comments
        asked, told = (
            _messages_below(getattr(method, which).DESCRIPTOR for method in UNARY.values())
            for which in ("request", "response")
        )
        self._closed = asked - told
        """Messages of requests only: an unknown field is refused there; elsewhere it may come from a newer server."""
        self.found: dict[str, Any] = {"Error": _ERROR}

    def reference(self, descriptor: Any) -> dict[str, Any]:
        if descriptor.name not in self.found:
            # Entered before its fields, which may refer back to it.
            self.found[descriptor.name] = {}
            made = self._enum(descriptor) if hasattr(descriptor, "values") else self._message(descriptor)
            self.found[descriptor.name].update(made)
        return {"$ref": f"#/components/schemas/{descriptor.name}"}

    def described(self, field: Any) -> dict[str, Any]:
        """The field's schema with its comment; whatever stands beside a $ref is ignored."""
        schema = self.field(field)
        text = self.comments.get(field.full_name, "")
        return {"allOf": [schema], "description": text} if "$ref" in schema else {**schema, "description": text}

    def field(self, field: Any) -> dict[str, Any]:
        nested = field.message_type
        if nested is not None and nested.GetOptions().map_entry:
            return {"type": "object", "additionalProperties": self.field(nested.fields_by_name["value"])}
        if nested is not None and nested.full_name == "google.protobuf.Timestamp":
            one: dict[str, Any] = {"type": "string", "format": "date-time"}
        elif nested is not None or field.enum_type is not None:
            one = self.reference(nested or field.enum_type)
        else:
            one = dict(_SCALARS[field.cpp_type])
        return {"type": "array", "items": one} if field.is_repeated else one

    def _message(self, descriptor: Any) -> dict[str, Any]:
        if descriptor.full_name == "google.rpc.Status":
            return _STATUS
        schema: dict[str, Any] = {
            "type": "object",
            "description": self.comments.get(descriptor.full_name, ""),
            "properties": {field.json_name: self.described(field) for field in descriptor.fields},
        }
        texts = {field.json_name: self.comments.get(field.full_name, "") for field in descriptor.fields}
        if required := [name for name, text in texts.items() if text.startswith(("Required.", "Required:"))]:
            schema["required"] = required
        if descriptor.full_name in self._closed:
            schema["additionalProperties"] = False
        return schema

    def _enum(self, descriptor: Any) -> dict[str, Any]:
        def told(name: str) -> str:
            # The full name of an enum's value is a sibling of the enum's.
            return self.comments.get(f"{descriptor.file.package}.{name}", "")

        lines = [f"- `{one.name}`: {told(one.name)}" for one in descriptor.values]
        text = self.comments.get(descriptor.full_name, "")
        return {
            "type": "string",
            "description": "\n".join([text, "", *lines]),
            "enum": [one.name for one in descriptor.values],
        }


def _messages_below(descriptors: Iterable[Any]) -> set[str]:
    """Full names of these messages and of all that they contain."""
    found: set[str] = set()
    waiting = list(descriptors)
    while waiting:
        descriptor = waiting.pop()
        if descriptor is not None and descriptor.full_name not in found:
            found.add(descriptor.full_name)
            waiting += [field.message_type for field in descriptor.fields]
    return found


def openapi_json(server_url: str = "/") -> bytes:
    return msgspec.json.encode(openapi_document(server_url))


def openapi_document(server_url: str = "/") -> dict[str, Any]:
    """For every path that calls an RPC, not those of the gateway alone."""
    comments = json.loads(resources.files("recserv.gateway").joinpath("comments.json").read_text("utf-8"))
    schemas = _Schemas(comments)
    paths = {method.path: {"post": _rpc(method, schemas)} for method in UNARY.values()} | _shop_paths(schemas)
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "recserv",
            "version": installed(),
            "description": comments["recserv.v1.RecommendationService"],
        },
        "servers": [{"url": server_url}],
        "paths": paths,
        "components": {
            "schemas": schemas.found,
            "parameters": {
                key: {"name": name, "in": "header", "schema": schema, "description": text}
                for key, (name, schema, text) in _HEADERS.items()
            },
            "responses": {"Error": {"description": "An error.", "content": _content({"$ref": _schema_path("Error")})}},
        },
    }


def _schema_path(name: str) -> str:
    return f"#/components/schemas/{name}"


def _parameter(key: str) -> dict[str, Any]:
    return {"$ref": f"#/components/parameters/{key}"}


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {_JSON: {"schema": schema}}


def _rpc(method: Method, schemas: _Schemas) -> dict[str, Any]:
    return _operation(method, schemas, body=method.request.DESCRIPTOR)


def _operation(
    method: Method,
    schemas: _Schemas,
    *,
    name: str | None = None,
    body: Any = None,
    parameters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    text = schemas.comments.get(method.descriptor.full_name, "")
    headers = {
        "X-Request-Id": {"schema": {"type": "string"}, "description": "The request's id."},
        "X-Recserv-Degraded": {
            "schema": {"type": "string"},
            "description": "Why the answer is not a full one, with commas between; absent where it is.",
        },
    }
    answer = {
        "description": "The answer. Fields at their default are left out.",
        "headers": headers,
        "content": _content(schemas.reference(method.response.DESCRIPTOR)),
    }
    operation: dict[str, Any] = {
        "operationId": name or method.name,
        "summary": text.partition(". ")[0].rstrip("."),
        "description": text,
        "parameters": [*(parameters or []), *map(_parameter, _HEADERS)],
        "responses": {"200": answer, **_error_responses()},
    }
    if body is not None:
        operation["requestBody"] = {"required": True, "content": _content(schemas.reference(body))}
    return operation


def _error_responses() -> dict[str, Any]:
    schema = {"$ref": _schema_path("Error")}
    told = {str(code): {"description": text, "content": _content(schema)} for code, text in _ERRORS.items()}
    return {**told, "default": {"$ref": "#/components/responses/Error"}}


def _shop_paths(schemas: _Schemas) -> dict[str, Any]:
    context, recommend = UNARY["GetContext"], UNARY["Recommend"]
    session, user = _query_parameters(context, schemas)
    token = {**_query_parameters(WATCH_EXPLANATIONS, schemas)[0], "name": "token", "in": "path", "required": True}
    explanations = _operation(WATCH_EXPLANATIONS, schemas, name="watchExplanations", parameters=[token])
    user_in_path = {**user, "in": "path", "required": True}
    return {
        f"{SHOP_PREFIX}/events": {
            "post": _operation(UNARY["IngestEvent"], schemas, name="postEvent", body=pb.Event.DESCRIPTOR)
        },
        f"{SHOP_PREFIX}/recommendations": {
            "get": _operation(
                recommend, schemas, name="getRecommendations", parameters=_query_parameters(recommend, schemas)
            )
        },
        CARD_PATH: {"get": _card(schemas)},
        f"{SHOP_PREFIX}/explanations/{{token}}": {"get": _streamed(explanations, _EXPLANATION_EVENTS)},
        WATCH_PATH: _watch_path(schemas),
        f"{SHOP_PREFIX}/context": {
            "get": _operation(context, schemas, name="getContextOfSession", parameters=[session, user])
        },
        f"{SHOP_PREFIX}/context/{{user_id}}": {
            "get": _operation(context, schemas, name="getContextOfUser", parameters=[session, user_in_path])
        },
    }


def _watch_path(schemas: _Schemas) -> dict[str, Any]:
    text = schemas.comments[f"{WATCH_RECOMMENDATIONS.request.DESCRIPTOR.full_name}.resume_token"]
    header, parameter = [
        {"name": name, "in": where, "description": text, "schema": {"type": "string"}}
        for name, where in ((LAST_EVENT_ID, "header"), (LAST_EVENT_ID_PARAMETER, "query"))
    ]
    asked = [*_query_parameters(UNARY["Recommend"], schemas), parameter, header]
    by_query = _operation(WATCH_RECOMMENDATIONS, schemas, name="watchRecommendations", parameters=asked)
    by_body = _operation(
        WATCH_RECOMMENDATIONS,
        schemas,
        name="postWatchRecommendations",
        parameters=[header],
        body=WATCH_RECOMMENDATIONS.request.DESCRIPTOR,
    )
    return {"get": _streamed(by_query, _WATCH_EVENTS), "post": _streamed(by_body, _WATCH_EVENTS)}


def _streamed(operation: dict[str, Any], events: str) -> dict[str, Any]:
    """The same operation with a stream of events as its answer, which has no deadline."""
    answer = {**operation["responses"]["200"], "description": events}
    answer["content"] = {"text/event-stream": {"schema": {"type": "string"}}}
    parameters = [one for one in operation["parameters"] if one != _parameter("Timeout")]
    return {**operation, "parameters": parameters, "responses": {**operation["responses"], "200": answer}}


def _card(schemas: _Schemas) -> dict[str, Any]:
    recommend = UNARY["Recommend"]
    fields = [one for one in _query_parameters(recommend, schemas) if one["name"] not in ("page_size", "return_items")]
    size = {"type": "integer", "format": "int32", "maximum": PAGE_SIZE_MAX, "default": PAGE_SIZE}
    flag = {"type": "boolean", "default": False}
    own = {
        "page_size": (size, "How many products at most."),
        "title": ({"type": "string", "default": TITLE}, "The heading."),
        "images": (flag, "With the catalogue's images: requests to the hosts that it names."),
        "fragment": (flag, "The list alone, without a page around it and without its style."),
    }
    parameters = [
        *fields,
        *({"name": name, "in": "query", "description": text, "schema": schema} for name, (schema, text) in own.items()),
    ]
    card = _operation(recommend, schemas, name="getCard", parameters=parameters)
    card["summary"] = "Recommended products as HTML, for chats and workflow tools"
    card["description"] = card["summary"] + ": all text is escaped, nothing in it runs or is fetched."
    card["responses"]["200"]["description"] = "A page, or the list of a page."
    card["responses"]["200"]["content"] = {"text/html": {"schema": {"type": "string"}}}
    return card


def _query_parameters(method: Method, schemas: _Schemas) -> list[dict[str, Any]]:
    """For the fields that a query can hold; a list's parameter is repeated."""
    return [
        {
            "name": field.name,
            "in": "query",
            "description": schemas.comments.get(field.full_name, ""),
            "schema": schemas.field(field),
        }
        for field in method.request.DESCRIPTOR.fields
        if field.message_type is None
    ]
