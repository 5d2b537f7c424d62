"""The words that every part of recserv shares: events, the shopper's state, queries and answers.

Plain structs without behaviour of any one layer: the server translates the wire into them, the stores keep them, the
pipeline turns a `RecommendQuery` into a `Recommendation`. Times are integers of milliseconds since the Unix epoch and
end in `_ms`; spans end in their unit. Item ids are the shop's own strings: nothing stored names an item by its row
in a model, so a new model needs no migration.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from enum import IntEnum

import msgspec

DEFAULT_TENANT = "default"

# Limits of the public contract; the server rejects what is beyond them before anything else looks at it.
ID_BYTES_MAX = 256
ID_CONTROL = r"[\x00-\x1f\x7f-\x9f]"
"""What no id may contain, on the wire and in files; for `re` and for Arrow's RE2 alike."""
EVENT_AHEAD_MS_MAX = 5 * 60 * 1000
"""How far ahead of the clock an event may be dated."""
PAGE_SIZE_DEFAULT = 10
PAGE_SIZE_MAX = 100
EXCLUSIONS_MAX = 1000
CANDIDATES_MAX = 1000
ANCHORS_MAX = 100
BATCH_EVENTS_MAX = 500
BATCH_REQUESTS_MAX = 100
WATCH_BYTES_MAX = 65_536
"""Of a watch's request, which is kept as it came for as long as the watch is open."""

# Limits of the shopper's state.
SESSION_EVENTS_MAX = 100
SESSION_WINDOW_MS = 30 * 60 * 1000
SESSION_TTL_MS = 35 * 60 * 1000
CART_ITEMS_MAX = 100
PURCHASES_MAX = 200
TASTE_ITEMS_MAX = 50
TASTE_HALF_LIFE_MS = 7 * 24 * 3600 * 1000

MARK_BYTES = 8
"""Of what a store remembers of each event that was imported."""
PAST_EVENTS_MAX = 100_000
"""Of a user, to import. Whoever has more is no shopper but a placeholder for many."""

HOUR_MS = 3600 * 1000
DAY_MS = 24 * HOUR_MS

Clock = Callable[[], int]
"""Wall clock: milliseconds since the epoch. Injected wherever time decides something."""


def wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class EventType(IntEnum):
    UNSPECIFIED = 0
    VIEW = 1
    CLICK = 2
    ADD_TO_CART = 3
    REMOVE_FROM_CART = 4
    PURCHASE = 5
    SEARCH = 6
    RATE = 7
    IMPRESSION = 8
    DISLIKE = 9


class Source(IntEnum):
    UNSPECIFIED = 0
    CONTEXT_VECTOR = 1
    COVISITATION = 2
    SESSION_KNN = 3
    POPULAR = 4
    POPULAR_IN_CATEGORY = 5
    TRENDING = 6
    REQUESTED = 7


class ReasonType(IntEnum):
    UNSPECIFIED = 0
    OFTEN_BOUGHT_WITH = 1
    OFTEN_VIEWED_WITH = 2
    SIMILAR_TO = 3
    SIMILAR_SESSIONS = 4
    POPULAR = 5
    POPULAR_IN_CATEGORY = 6
    TRENDING = 7
    ALREADY_IN_SESSION = 8
    MATCHES_SEARCH = 9


class DegradedReason(IntEnum):
    UNSPECIFIED = 0
    STATE_UNAVAILABLE = 1
    STALE_STATE = 2
    INDEX_UNAVAILABLE = 3
    INDEX_TIMEOUT = 4
    RANKER_UNAVAILABLE = 5
    DEADLINE = 6
    OVERLOAD = 7
    SOURCE_UNAVAILABLE = 8
    EXPLANATION_UNAVAILABLE = 9
    STAGE_FAILED = 10


class ExplainMode(IntEnum):
    UNSPECIFIED = 0
    NONE = 1
    REASONS = 2
    LLM_ASYNC = 3


class ExplanationState(IntEnum):
    UNSPECIFIED = 0
    PENDING = 1
    READY = 2
    TEMPLATE = 3


class TemplateCause(IntEnum):
    """Why an explanation stayed the template text."""

    UNSPECIFIED = 0
    NOT_CONFIGURED = 1
    QUEUE_FULL = 2
    BUDGET_SPENT = 3
    PROVIDER_FAILED = 4
    DISCARDED = 5
    EXPIRED = 6


class Priority(IntEnum):
    UNSPECIFIED = 0
    LOW = 1
    NORMAL = 2
    HIGH = 3


PRIORITY_METADATA = {
    Priority.LOW: ("x-recserv-priority", "low"),
    Priority.HIGH: ("x-recserv-priority", "high"),
}
"""Of calls that are not NORMAL: under overload the server decides before it reads the message."""


class IngestStatus(IntEnum):
    UNSPECIFIED = 0
    ACCEPTED = 1
    DUPLICATE = 2
    REJECTED = 3


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a shopper did, as the caller told it. `event_time_ms` None: the caller left it to the server."""

    event_id: str = ""
    event_type: EventType = EventType.UNSPECIFIED
    user_id: str = ""
    session_id: str = ""
    item_id: str = ""
    quantity: int = 0
    value: float = 0.0
    currency_code: str = ""
    search_query: str = ""
    event_time_ms: int | None = None
    dwell_ms: int = 0
    recommendation_id: str = ""
    impression_item_ids: tuple[str, ...] = ()
    properties: dict[str, str] = {}


_CANONICAL = msgspec.msgpack.Encoder(order="deterministic").encode
# Hashes are stored, so what is hashed of an event never changes: these fields, set or not, in this order.
_HASHED_ALWAYS = (
    "event_id",
    "event_type",
    "user_id",
    "session_id",
    "item_id",
    "quantity",
    "value",
    "currency_code",
    "search_query",
    "event_time_ms",
    "dwell_ms",
    "recommendation_id",
    "impression_item_ids",
    "properties",
)
_HashedAlways = msgspec.defstruct("_HashedAlways", _HASHED_ALWAYS)


def body_hash(event: Event) -> bytes:
    """16 bytes that are equal for two events exactly if every field that the caller set is equal.

    Maps are encoded in key order, so the wire's order of entries does not matter. A field that `Event` gets one day
    counts where it is set only: a retry across the upgrade has the hash that the release before has stored.
    """
    if len(event.__struct_fields__) == len(_HASHED_ALWAYS):
        body = _CANONICAL(event)
    else:
        body = _CANONICAL(_HashedAlways(*[getattr(event, name) for name in _HASHED_ALWAYS])) + _later_fields(event)
    return hashlib.blake2b(body, digest_size=16).digest()


def _later_fields(event: Event) -> bytes:
    unset = type(event)()
    names = [name for name in event.__struct_fields__ if name not in _HASHED_ALWAYS]
    later = {name: getattr(event, name) for name in names if getattr(event, name) != getattr(unset, name)}
    return _CANONICAL(later) if later else b""


class ShopperKey(msgspec.Struct, frozen=True):
    """Whose state: a session, a user, or a session of a known user. At least one is not empty."""

    session_id: str = ""
    user_id: str = ""


class SessionEvent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a session remembers of an event. `sequence` is the store's order of acknowledgement."""

    event_type: int
    item_id: str
    event_time_ms: int
    arrival_ms: int
    sequence: int
    search_query: str = ""
    quantity: int = 0
    value: float = 0.0
    dwell_ms: int = 0


class SessionState(msgspec.Struct, frozen=True):
    """The live session: at most SESSION_EVENTS_MAX events of the last SESSION_WINDOW_MS by arrival, oldest first by
    (event_time_ms, sequence). `version` is the sequence of the newest event ever put in, 0 for an empty session; where
    the user's own timeline was merged in, by event time, it is the sum of both.
    """

    events: tuple[SessionEvent, ...] = ()
    version: int = 0

    @property
    def size(self) -> int:
        return len(self.events)


class PackedSession:
    """A SessionState as it was stored, for those who read it where it lies (`_codec`); decoded once if anybody asks for
    its events. `size`: how many they are, those that arrived after `horizon_ms`; `packed` was found whole.
    """

    __slots__ = ("_decode", "_events", "horizon_ms", "packed", "size", "version")

    def __init__(
        self, packed: bytes, size: int, version: int, horizon_ms: int, decode: Callable[[bytes], SessionState]
    ):
        self.packed = packed
        self.size = size
        self.version = version
        self.horizon_ms = horizon_ms
        self._decode = decode
        self._events: tuple[SessionEvent, ...] | None = None

    @property
    def events(self) -> tuple[SessionEvent, ...]:
        if self._events is None:
            events = self._decode(self.packed).events
            self._events = tuple([event for event in events if event.arrival_ms > self.horizon_ms])
        return self._events

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PackedSession | SessionState):
            return NotImplemented
        return (self.version, self.events) == (other.version, other.events)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"PackedSession(events={self.events!r}, version={self.version})"


class Purchase(msgspec.Struct, frozen=True, array_like=True, gc=False):
    item_id: str
    time_ms: int


class Taste(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`weight` as of `time_ms`, halving every TASTE_HALF_LIFE_MS. Below zero: disliked at `time_ms`."""

    item_id: str
    weight: float
    time_ms: int


class Profile(msgspec.Struct, frozen=True, array_like=True):
    """What outlives the session. `cart` maps item id to units in order of first insertion; `purchases` oldest first,
    one entry an item, at most PURCHASES_MAX; `taste` at most TASTE_ITEMS_MAX; `event_count` counts accepted events.
    """

    cart: dict[str, int] = {}
    purchases: tuple[Purchase, ...] = ()
    taste: tuple[Taste, ...] = ()
    event_count: int = 0
    sequence: int = 0
    updated_ms: int = 0


class UserPast(msgspec.Struct, frozen=True):
    """What one user did before a store knew of it. `events` oldest first, each with its time; `marks` tell each of them
    from all others of the user, MARK_BYTES an event, in the same order.
    """

    user_id: str
    events: tuple[Event, ...]
    marks: bytes


class ShopperState(msgspec.Struct, frozen=True):
    """One consistent read. `sequence`: every event of this timeline (the session, else the user) acknowledged with a
    sequence up to it is in this state; `user_sequence`: every event of the user outside of any session.
    """

    session: SessionState | PackedSession = SessionState()
    profile: Profile = Profile()
    sequence: int = 0
    user_sequence: int = 0


class Item(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A product of the catalogue. `price` NaN-free; `categories` from general to specific; `group_id` is the same for
    all variants of one product (sizes, colours), "" for a product without any.
    """

    item_id: str
    title: str = ""
    description: str = ""
    brand: str = ""
    categories: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    price: float = 0.0
    currency_code: str = ""
    available: bool = True
    image_uri: str = ""
    attributes: dict[str, str] = {}
    group_id: str = ""


class RecommendQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A validated RecommendRequest. `page_size` is already 1..PAGE_SIZE_MAX, `diversity` 0..1."""

    tenant: str = DEFAULT_TENANT
    session_id: str = ""
    user_id: str = ""
    placement: str = ""
    priority: Priority = Priority.NORMAL
    context_events: tuple[Event, ...] = ()
    anchor_item_ids: tuple[str, ...] = ()
    candidate_item_ids: tuple[str, ...] = ()
    category: str = ""
    page_size: int = PAGE_SIZE_DEFAULT
    exclude_item_ids: tuple[str, ...] = ()
    exclude_purchased: bool | None = None
    diversity: float | None = None
    explain: ExplainMode = ExplainMode.REASONS
    consistency_token: str = ""
    return_items: bool = False
    locale: str = ""
    device_type: str = ""
    user_attributes: dict[str, str] = {}
    request_id: str = ""
    known_answer: bytes = b""
    """Digest (pipeline.watch_answers) of an answer that the caller has: for one like it no texts are asked for."""


class Reason(msgspec.Struct, frozen=True):
    type: ReasonType
    because_item_ids: tuple[str, ...] = ()
    text: str = ""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    item_id: str
    score: float
    rank: int
    source: Source
    reasons: tuple[Reason, ...] = ()
    item: Item | None = None
    explanation: str = ""
    explanation_state: ExplanationState = ExplanationState.UNSPECIFIED


class Recommendation(msgspec.Struct, frozen=True, kw_only=True):
    """`shared`: other answers have this very object as results, so what is made of it is worth keeping."""

    results: tuple[Result, ...]
    recommendation_id: str
    model_version: str
    degraded_reasons: tuple[DegradedReason, ...] = ()
    explanation_token: str = ""
    missing_item_ids: tuple[str, ...] = ()
    missing_categories: tuple[str, ...] = ()
    shared: bool = False


class ShopperContext(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of GetContext; see GetContextResponse for the bounds."""

    recent_item_ids: tuple[str, ...] = ()
    recent_searches: tuple[str, ...] = ()
    cart_item_ids: tuple[str, ...] = ()
    purchased_item_ids: tuple[str, ...] = ()
    event_count: int = 0
    category_weights: tuple[tuple[str, float], ...] = ()


class Explanation(msgspec.Struct, frozen=True):
    """`cause` only with the state TEMPLATE."""

    item_id: str
    text: str
    state: ExplanationState
    cause: TemplateCause = TemplateCause.UNSPECIFIED


SERVER_ERRORS = ("UNKNOWN", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
"""Names of gRPC statuses that are not the caller's doing, for whoever counts errors. UNIMPLEMENTED is: a field or a
method that does not exist yet.
"""
