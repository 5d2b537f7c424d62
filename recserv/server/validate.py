"""Validation of requests: collects every violation, with the path of its field.

Works on the parsed wire messages, before anything is converted. The texts repeat numbers but no text that the
caller sent, which may be long, or personal.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from recserv import v1 as pb
from recserv.errors import InvalidInput, NotImplementedYet, Violation
from recserv.pipeline.watch_answers import digest_of_token
from recserv.types import (
    ANCHORS_MAX,
    CANDIDATES_MAX,
    EVENT_AHEAD_MS_MAX,
    EXCLUSIONS_MAX,
    ID_BYTES_MAX,
    ID_CONTROL,
    PAGE_SIZE_MAX,
    SESSION_EVENTS_MAX,
    WATCH_BYTES_MAX,
    EventType,
    ExplainMode,
    Priority,
)

QUERY_BYTES_MAX = 1024
IMPRESSIONS_MAX = 500
MAP_ENTRIES_MAX = 64
MAP_VALUE_BYTES_MAX = 1024
_TIMESTAMP_SECONDS = range(-62_135_596_800, 253_402_300_800)
_UTF8_BYTES_A_CHARACTER = 4
_SHORT = ID_BYTES_MAX // _UTF8_BYTES_A_CHARACTER
_VIOLATIONS_MAX = 50
_TYPES_OF_ITEMS = frozenset(map(int, EventType)) - {EventType.UNSPECIFIED, EventType.SEARCH}
_CONTROL = re.compile(ID_CONTROL)


def _plain(value: str) -> bool:
    """Whether it is a short printable id, as nearly all are. Needs no encoding and no regular expression."""
    return len(value) <= _SHORT and value.isprintable()


class Violations:
    """Collects; `check` raises InvalidInput if there are any."""

    def __init__(self) -> None:
        self._found: list[Violation] = []

    def add(self, field: str, description: str, reason: str) -> None:
        if len(self._found) < _VIOLATIONS_MAX:
            self._found.append(Violation(field, description, reason))

    def take(self, error: InvalidInput) -> None:
        for found in error.violations:
            self.add(found.field, found.description, found.reason)

    def check(self) -> None:
        if self._found:
            raise InvalidInput(self._found)

    def required_id(self, field: str, value: str) -> None:
        if not value:
            self.add(field, "is required", "REQUIRED")
        else:
            self.optional_id(field, value)

    def optional_id(self, field: str, value: str) -> None:
        if _plain(value):
            return
        if len(value.encode()) > ID_BYTES_MAX:
            self.add(field, f"is longer than {ID_BYTES_MAX} bytes", "TOO_LONG")
        elif _CONTROL.search(value):
            self.add(field, "contains a control character", "CONTROL_CHARACTER")

    def ids(self, field: str, values: Sequence[str], count_max: int) -> None:
        if len(values) > count_max:
            self.add(field, f"has {len(values)} entries; at most {count_max} are allowed", "TOO_MANY")
            return
        for index, value in enumerate(values):
            if not value or not _plain(value):
                self.required_id(f"{field}[{index}]", value)

    def text(self, field: str, value: str, bytes_max: int) -> None:
        if len(value) > bytes_max or len(value.encode()) > bytes_max:
            self.add(field, f"is longer than {bytes_max} bytes", "TOO_LONG")

    def attributes(self, field: str, values: Mapping[str, str]) -> None:
        if len(values) > MAP_ENTRIES_MAX:
            self.add(field, f"has {len(values)} entries; at most {MAP_ENTRIES_MAX} are allowed", "TOO_MANY")
            return
        for key, value in values.items():
            self.required_id(f"{field} (a key)", key)
            self.text(f"{field} (a value)", value, MAP_VALUE_BYTES_MAX)


def _check_required(out: Violations, event: pb.Event, path: str) -> None:
    """Requires an item, except for searches, which need a query, and impressions of several items."""
    kind = int(event.event_type)
    if kind == EventType.SEARCH:
        if not event.search_query:
            out.add(f"{path}.search_query", "is required for a search", "REQUIRED")
        out.optional_id(f"{path}.item_id", event.item_id)
    elif kind == EventType.IMPRESSION and event.impression_item_ids:
        out.optional_id(f"{path}.item_id", event.item_id)
    else:
        out.required_id(f"{path}.item_id", event.item_id)


def _wrong_about_time(event: pb.Event, now_ms: int) -> tuple[str, str] | None:
    """The violation's text and its reason for programs; None if the time is fine."""
    if not event.HasField("event_time"):
        return None
    time = event.event_time
    if time.seconds not in _TIMESTAMP_SECONDS or not 0 <= time.nanos < 1_000_000_000:
        return "is not a valid timestamp", "MALFORMED"
    if time.seconds * 1000 + time.nanos // 1_000_000 > now_ms + EVENT_AHEAD_MS_MAX:
        return "is more than 5 minutes ahead of the server's clock", "OUT_OF_RANGE"
    return None


def _check_event_body(out: Violations, event: pb.Event, path: str, now_ms: int) -> None:
    """The rules that stored events share with those in RecommendRequest.context_events."""
    if not event.event_type:
        out.add(f"{path}.event_type", "is required", "REQUIRED")
    elif event.event_type not in EventType._value2member_map_:
        out.add(f"{path}.event_type", f"{event.event_type} is not a known event type", "UNKNOWN_VALUE")
    _check_required(out, event, path)
    if wrong := _wrong_about_time(event, now_ms):
        out.add(f"{path}.event_time", *wrong)
    if not math.isfinite(event.value):
        out.add(f"{path}.value", "is not a finite number", "NOT_FINITE")
    elif event.value < 0:
        out.add(f"{path}.value", "is negative", "OUT_OF_RANGE")
    if event.quantity < 0:
        out.add(f"{path}.quantity", "is negative", "OUT_OF_RANGE")
    if event.dwell_ms < 0:
        out.add(f"{path}.dwell_ms", "is negative", "OUT_OF_RANGE")
    if event.search_query:
        out.text(f"{path}.search_query", event.search_query, QUERY_BYTES_MAX)
    if (code := event.currency_code) and not (len(code) == 3 and code.isascii() and code.isalpha()):
        out.add(f"{path}.currency_code", "is not an ISO 4217 code of three letters", "MALFORMED")
    out.optional_id(f"{path}.event_id", event.event_id)
    out.optional_id(f"{path}.user_id", event.user_id)
    out.optional_id(f"{path}.session_id", event.session_id)
    out.optional_id(f"{path}.recommendation_id", event.recommendation_id)
    if event.impression_item_ids:
        out.ids(f"{path}.impression_item_ids", event.impression_item_ids, IMPRESSIONS_MAX)
    if event.properties:
        out.attributes(f"{path}.properties", event.properties)


def is_plain_event(event: pb.Event, now_ms: int) -> bool:
    """A fast path: True if the event is valid and may be stored, as nearly every event is. False decides nothing. Takes
    half as long as the checks that can say what is wrong.
    """
    item_id, event_id, session_id, user_id = event.item_id, event.event_id, event.session_id, event.user_id
    return bool(
        item_id
        and event_id
        and (session_id or user_id)
        and _plain(item_id)
        and _plain(event_id)
        and _plain(session_id)
        and _plain(user_id)
        and _plain(event.recommendation_id)
        and event.event_type in _TYPES_OF_ITEMS
        and 0.0 <= event.value < math.inf
        and event.quantity >= 0
        and event.dwell_ms >= 0
        and not event.currency_code
        and not event.search_query
        and not _wrong_about_time(event, now_ms)
        and not event.impression_item_ids
        and not event.properties
    )


def check_event(event: pb.Event, path: str, now_ms: int) -> None:
    """An event that is to be stored. `now_ms`: the server's clock. Raises InvalidInput."""
    out = Violations()
    if not event.event_id:
        out.add(f"{path}.event_id", "is required", "REQUIRED")
    if not event.session_id and not event.user_id:
        out.add(f"{path}.session_id", "one of session_id and user_id is required", "REQUIRED")
    _check_event_body(out, event, path, now_ms)
    out.check()


def check_recommend(request: pb.RecommendRequest, now_ms: int) -> None:
    """Raises InvalidInput; NotImplementedYet for fields that are planned but not built."""
    out = Violations()
    out.optional_id("session_id", request.session_id)
    out.optional_id("user_id", request.user_id)
    out.optional_id("request_id", request.request_id)
    _check_ranges(out, request)
    for name in ("placement", "category", "locale", "device_type", "consistency_token"):
        if value := getattr(request, name):
            out.optional_id(name, value)
    if request.context_events:
        _check_context_events(out, request.context_events, now_ms)
    if request.anchor_item_ids:
        out.ids("anchor_item_ids", request.anchor_item_ids, ANCHORS_MAX)
    if request.candidate_item_ids:
        out.ids("candidate_item_ids", request.candidate_item_ids, CANDIDATES_MAX)
    if request.exclude_item_ids:
        out.ids("exclude_item_ids", request.exclude_item_ids, EXCLUSIONS_MAX)
    if request.user_attributes:
        out.attributes("user_attributes", request.user_attributes)
    out.check()
    for name, value in (("filter", request.filter), ("page_token", request.page_token)):
        if value:
            raise NotImplementedYet(f"{name}: not built yet; leave it unset")


def check_watch(message: pb.WatchRecommendationsRequest, now_ms: int) -> None:
    """Collects all violations at once, the size excepted; `request` follows the rules of `check_recommend`. Raises
    InvalidInput; NotImplementedYet.
    """
    out, request = Violations(), message.request
    later: NotImplementedYet | None = None
    if not message.HasField("request"):
        out.add("request", "is required", "REQUIRED")
    else:
        if not request.session_id and not request.user_id:
            out.add("request.session_id", "one of session_id and user_id is required", "REQUIRED")
        try:
            check_recommend(request, now_ms)
        except InvalidInput as error:
            out.take(with_prefix(error, "request"))
        except NotImplementedYet as error:
            later = NotImplementedYet(f"request.{error}")
    if message.resume_token:
        try:
            digest_of_token(message.resume_token)
        except InvalidInput as error:
            out.take(error)
    out.check()
    if later is not None:
        try:
            raise later
        finally:
            # Breaks a reference cycle: the error's traceback refers to this frame.
            del later
    # Unknown fields count, too.
    if (size := message.ByteSize()) > WATCH_BYTES_MAX:
        out.add("request", f"has {size} bytes; at most {WATCH_BYTES_MAX} are kept for a watch", "TOO_LONG")
    out.check()


def _check_ranges(out: Violations, request: pb.RecommendRequest) -> None:
    if not 0 <= request.page_size <= PAGE_SIZE_MAX:
        out.add("page_size", f"{request.page_size} is outside 0..{PAGE_SIZE_MAX}", "OUT_OF_RANGE")
    # Written so that NaN fails, too.
    if request.HasField("diversity") and not 0.0 <= request.diversity <= 1.0:
        out.add("diversity", "is outside 0..1", "OUT_OF_RANGE")
    if request.explain not in ExplainMode._value2member_map_:
        out.add("explain", f"{request.explain} is not a known mode", "UNKNOWN_VALUE")
    if request.priority not in Priority._value2member_map_:
        out.add("priority", f"{request.priority} is not a known priority", "UNKNOWN_VALUE")


def _check_context_events(out: Violations, events: Sequence[pb.Event], now_ms: int) -> None:
    if len(events) > SESSION_EVENTS_MAX:
        out.add("context_events", f"has {len(events)} entries; at most {SESSION_EVENTS_MAX} are allowed", "TOO_MANY")
        return
    for index, event in enumerate(events):
        _check_event_body(out, event, f"context_events[{index}]", now_ms)


def check_count(field: str, count: int, count_max: int) -> None:
    """A batch has 1 to `count_max` entries. Raises InvalidInput."""
    out = Violations()
    if count == 0:
        out.add(field, "needs at least one entry", "REQUIRED")
    elif count > count_max:
        out.add(field, f"has {count} entries; at most {count_max} are allowed", "TOO_MANY")
    out.check()


def check_shopper(request: pb.GetContextRequest) -> None:
    """Raises InvalidInput."""
    out = Violations()
    if not request.session_id and not request.user_id:
        out.add("session_id", "one of session_id and user_id is required", "REQUIRED")
    out.optional_id("session_id", request.session_id)
    out.optional_id("user_id", request.user_id)
    out.check()


def check_token(field: str, value: str) -> None:
    """Raises InvalidInput."""
    out = Violations()
    out.required_id(field, value)
    out.check()


def with_prefix(error: InvalidInput, prefix: str) -> InvalidInput:
    """The same violations with their paths under `prefix` (an entry of a batch, a watch's request)."""
    return InvalidInput([Violation(f"{prefix}.{v.field}", v.description, v.reason) for v in error.violations])
