"""How a watch compares answers: by a digest, which the resume token carries.

    Recommendation -> answer_digest -> resume_token -> text of 20 URL-safe characters -> digest_of_token

The digest covers what a page shows: item ids in order, with source and reasons; degraded reasons; unknown ids; the
model. It leaves out what may differ between equal answers: scores (they decay with time), the recommendation's id, and
tokens and texts of explanations, which have a stream of their own. EXPLANATION_UNAVAILABLE is left out, too: without
reasons the answer differs anyway, and whether texts can be requested from a language model is known only after the
comparison.

The text is base64url of version (1 byte), digest (12) and a checksum of both (2), so that a garbled token is told from
one of another answer. It needs neither key nor memory: any server accepts it, and a forged token can only hide the
answer that it names from its own sender. A release that changes the digest increments the version and keeps length and
checksum: then old and new servers accept each other's tokens during a rolling update, and at worst send an answer
twice.
"""

from __future__ import annotations

import hashlib

import msgspec

from recserv.pipeline.token_text import payload_of, token_text
from recserv.types import DegradedReason, Recommendation

FIELD = "resume_token"
DIGEST_BYTES = 12
_VERSION = b"\x01"
_CHECK_BYTES = 2
_OF_ANOTHER_RELEASE = bytes(DIGEST_BYTES)
"""Matches no answer: the caller has one, but this release cannot tell which."""
PASSING = frozenset(
    {
        DegradedReason.STATE_UNAVAILABLE,
        DegradedReason.OVERLOAD,
        DegradedReason.DEADLINE,
        DegradedReason.STAGE_FAILED,
    }
)
"""An answer with one of these reasons is not about the shopper."""
FOR_NOW = frozenset({DegradedReason.INDEX_UNAVAILABLE, DegradedReason.INDEX_TIMEOUT, DegradedReason.RANKER_UNAVAILABLE})
"""An answer with one of these is about the shopper, but lacks a part of the server that may recover, without an event
to announce it. SOURCE_UNAVAILABLE is not among them: waiting does not give a model the source that it lacks, and
watches are notified of a new model.
"""
_encode = msgspec.msgpack.Encoder().encode


def answer_digest(answer: Recommendation) -> bytes:
    """DIGEST_BYTES bytes, equal in every process."""
    shown = [
        (result.item_id, result.source, [(r.type, r.because_item_ids, r.text) for r in result.reasons])
        for result in answer.results
    ]
    lacking = sorted(answer.degraded_reasons)
    if DegradedReason.EXPLANATION_UNAVAILABLE in lacking:
        lacking.remove(DegradedReason.EXPLANATION_UNAVAILABLE)
    whole = (answer.model_version, shown, lacking, answer.missing_item_ids, answer.missing_categories)
    return hashlib.blake2b(_encode(whole), digest_size=DIGEST_BYTES).digest()


def is_passing(answer: Recommendation) -> bool:
    """Whether it only reflects the server's trouble, and so must not replace an answer that a caller has."""
    return not PASSING.isdisjoint(answer.degraded_reasons)


def is_settled(answer: Recommendation) -> bool:
    """Whether it remains valid until an event or another model changes it."""
    return (PASSING | FOR_NOW).isdisjoint(answer.degraded_reasons)


def is_news(answer: Recommendation, known: bytes) -> bool:
    """Whether to send it to a caller that has the answer with the digest `known`; empty: to one that has none."""
    return not known or (not is_passing(answer) and answer_digest(answer) != known)


def resume_token(digest: bytes) -> str:
    return token_text(_VERSION + digest, _CHECK_BYTES)


def digest_of_token(text: str) -> bytes:
    """Raises InvalidInput, naming `resume_token`, for text that is not such a token."""
    payload = payload_of(text, FIELD, len(_VERSION) + DIGEST_BYTES, _CHECK_BYTES)
    return payload[1:] if payload[:1] == _VERSION else _OF_ANOTHER_RELEASE
