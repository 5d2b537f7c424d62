"""What a provider sent, turned into values or into one of our failures: status, headers, bodies.

Pure: no I/O. No part of a body ever enters an error message: it is untrusted text, and may echo an API key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import msgspec

from recserv.llm.base import (
    BadAnswer,
    ContextTooLong,
    KeyRefused,
    LlmFailure,
    ProviderDown,
    RateLimited,
    Refused,
    Usage,
)
from recserv.llm.sse import WireUsage, usage_of

RETRY_AFTER_S_MAX = 3600.0
_CONTEXT_WORDS = re.compile(
    rb"context[_ ]length|context[_ ]window|maximum context|too many tokens|prompt is too long|"
    rb"input token count|reduce the length|exceeds? the (?:available )?context",
    re.IGNORECASE,
)
_SPAN = re.compile(r"(?:(\d+(?:\.\d+)?)(ms|s|m|h|d))")
_SPAN_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LIMITS = ("requests", "tokens")


class Body(msgspec.Struct, frozen=True):
    content: bytes
    content_type: str


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: WireUsage | None = None


class _Embedding(msgspec.Struct):
    embedding: list[float]
    index: int


class _Embeddings(msgspec.Struct):
    data: list[_Embedding]
    usage: WireUsage | None = None


_decode_completion = msgspec.json.Decoder(_Completion).decode
_decode_embeddings = msgspec.json.Decoder(_Embeddings).decode


def check_body(headers: Mapping[str, str]) -> None:
    """Raises BadAnswer if the body is compressed, which the request ruled out."""
    if headers.get("content-encoding", "identity") != "identity":
        raise BadAnswer("the answer is compressed")


def whole_answer(body: Body) -> tuple[str, str, Usage | None]:
    """Text, finish reason and usage of a chat completion. Raises BadAnswer."""
    try:
        completion = _decode_completion(body.content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadAnswer("the answer is not a chat completion") from error
    usage = usage_of(completion.usage)
    if not completion.choices:
        raise BadAnswer("the answer has no choices", usage)
    choice = completion.choices[0]
    if not choice.finish_reason:
        raise BadAnswer("the answer has no finish reason", usage)
    return choice.message.content or "", choice.finish_reason, usage


def embeddings_of(body: Body, count: int) -> tuple[list[list[float]], Usage | None]:
    """`count` finite vectors of one length, by their index. Raises BadAnswer."""
    try:
        answer = _decode_embeddings(body.content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadAnswer("the answer holds no embeddings") from error
    usage = usage_of(answer.usage)
    vectors = {entry.index: entry.embedding for entry in answer.data}
    if sorted(vectors) != list(range(count)) or len(answer.data) != count:
        raise BadAnswer(f"{len(answer.data)} embeddings for {count} texts", usage)
    lengths = {len(vector) for vector in vectors.values()}
    if len(lengths) > 1 or 0 in lengths or not all(math.isfinite(x) for v in vectors.values() for x in v):
        raise BadAnswer("the embeddings are empty, of several lengths or not finite", usage)
    return [vectors[place] for place in range(count)], usage


def failure_of(status: int, headers: Mapping[str, str], body: bytes, now_s: float) -> LlmFailure:
    """Maps an answer other than 200 to its failure. `now_s`: wall clock, for dates in headers."""
    if status == 429:
        return RateLimited("the provider limits the rate", retry_after_s(headers, now_s))
    if status == 401:
        return KeyRefused(f"status {status}")
    if status in (400, 413, 422) and (status == 413 or _CONTEXT_WORDS.search(body)):
        return ContextTooLong(f"status {status}")
    if status in (408, 409) or status >= 500:
        return ProviderDown(f"status {status}", retry_after_s(headers, now_s))
    return Refused(f"status {status}")


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """How long to wait: Retry-After-Ms, Retry-After (seconds or a date), else the reset of a limit that is used up.

    At most RETRY_AFTER_S_MAX; None if the headers give no usable value.
    """
    waits = [_seconds(headers.get("retry-after-ms"), 0.001), _retry_after(headers.get("retry-after"), now_s)]
    for kind in _LIMITS:
        if headers.get(f"x-ratelimit-remaining-{kind}", "").strip() == "0":
            waits.append(_span(headers.get(f"x-ratelimit-reset-{kind}")))
    said = [wait for wait in waits if wait is not None]
    return min(max(said), RETRY_AFTER_S_MAX) if said else None


def _seconds(text: str | None, scale: float = 1.0) -> float | None:
    try:
        value = float(text) * scale if text else math.nan
    except ValueError:
        return None
    return max(0.0, value) if math.isfinite(value) else None


def _retry_after(text: str | None, now_s: float) -> float | None:
    seconds = _seconds(text)
    if seconds is not None or not text:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_s)
    except (ValueError, OverflowError):
        return None


def _span(text: str | None) -> float | None:
    """`1s`, `6m0s`, `250ms`, or a bare number of seconds."""
    if not text:
        return None
    parts = _SPAN.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text.strip():
        return sum(float(number) * _SPAN_S[unit] for number, unit in parts)
    return _seconds(text)
