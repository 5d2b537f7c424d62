"""The public API: clients, what they take and give, the errors they raise, and the generated contract.

    from recserv import Event, EventType, RecommendationClient, RecommendQuery

What `__all__` names keeps its meaning from one release to the next, or the changelog says so; all other modules are
the server's own and may change. Importing the package loads none of it: each name is loaded when it is first asked
for, so a serving process pays for no client, and a program that only makes events does not load gRPC.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recserv import v1
    from recserv.client import (
        AsyncEventStream,
        AsyncRecommendationClient,
        AsyncRecommendationWatch,
        CallFailed,
        ClientOptions,
        EventStream,
        Explanations,
        Ingested,
        RecommendationClient,
        RecommendationWatch,
        StreamOptions,
        recommend_request,
    )
    from recserv.errors import (
        DeadlineTooNear,
        EventConflict,
        EventTooOld,
        InvalidInput,
        NotFound,
        NotImplementedYet,
        Overloaded,
        RecservError,
        StoreUnavailable,
        Violation,
    )
    from recserv.types import (
        DegradedReason,
        Event,
        EventType,
        ExplainMode,
        Explanation,
        ExplanationState,
        IngestStatus,
        Item,
        Priority,
        Reason,
        ReasonType,
        Recommendation,
        RecommendQuery,
        Result,
        ShopperContext,
        ShopperKey,
        Source,
        TemplateCause,
    )

    __version__: str
else:
    # The lightest first: whoever asks for an event needs no gRPC.
    _HOMES = ("recserv.types", "recserv.errors", "recserv.client")

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = _load(name)
        return found

    def __dir__():
        return sorted({*globals(), *__all__})

    def _load(name):
        from importlib import import_module

        if name == "v1":
            return import_module("recserv.v1")
        if name == "__version__":
            # The client may have come alone, as a distribution of another name.
            return import_module("recserv.version").installed("recserv", "recserv-client")
        return next(vars(home)[name] for home in map(import_module, _HOMES) if name in vars(home))


__all__ = [
    "AsyncEventStream",
    "AsyncRecommendationClient",
    "AsyncRecommendationWatch",
    "CallFailed",
    "ClientOptions",
    "DeadlineTooNear",
    "DegradedReason",
    "Event",
    "EventConflict",
    "EventStream",
    "EventTooOld",
    "EventType",
    "ExplainMode",
    "Explanation",
    "ExplanationState",
    "Explanations",
    "IngestStatus",
    "Ingested",
    "InvalidInput",
    "Item",
    "NotFound",
    "NotImplementedYet",
    "Overloaded",
    "Priority",
    "Reason",
    "ReasonType",
    "RecommendQuery",
    "Recommendation",
    "RecommendationClient",
    "RecommendationWatch",
    "RecservError",
    "Result",
    "ShopperContext",
    "ShopperKey",
    "Source",
    "StoreUnavailable",
    "StreamOptions",
    "TemplateCause",
    "Violation",
    "__version__",
    "recommend_request",
    "v1",
]
