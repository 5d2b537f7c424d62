"""What a watch compares: a digest of an answer, and the resume token that carries it.

    Recommendation -> answer_digest -> resume_token -> text of 20 characters, safe in a URL -> digest_of_token

The digest stands for what a page shows: item ids in their order, with source and reasons; what the answer had to do
without; which ids it did not know; the model. Not for what differs though nothing has changed: scores (they decay with
time), the recommendation's id, tokens and texts of explanations, which have a stream of their own. Neither for
EXPLANATION_UNAVAILABLE: without reasons the answer differs anyway, and whether texts of a language model could be asked
for is known only after the comparison.

The text is base64url of version (1 byte), digest (12) and a checksum of both (2), so that a token that was cut or
garbled is told from one of another answer. It needs no key and no memory: any server takes it, and all that a forged
one does is to hide from whoever sends it the answer that it names. A release that digests something else counts the
version up and keeps length and checksum: then each takes the other's tokens, as while servers are replaced one by one,
and sends an answer once more than it need.
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
"""No answer's digest: the caller has an answer, and nobody here knows which."""
PASSING = frozenset(
    {
        DegradedReason.STATE_UNAVAILABLE,
        DegradedReason.OVERLOAD,
        DegradedReason.DEADLINE,
        DegradedReason.STAGE_FAILED,
    }
)
"""An answer that lacks so much says nothing of the shopper."""
FOR_NOW = frozenset({DegradedReason.INDEX_UNAVAILABLE, DegradedReason.INDEX_TIMEOUT, DegradedReason.RANKER_UNAVAILABLE})
"""An answer to the shopper's events for which a part of the server was missing: there is a better one once it is back,
and no event will tell. SOURCE_UNAVAILABLE is none of them: a model that lacks a source gets none by waiting, and
another model is told to the watches.
"""
_encode = msgspec.msgpack.Encoder().encode


def answer_digest(answer: Recommendation) -> bytes:
    """DIGEST_BYTES bytes; the same in every process."""
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
    """Whether it tells of the server's trouble only: not to take the place of an answer that a caller has."""
    return not PASSING.isdisjoint(answer.degraded_reasons)


def is_settled(answer: Recommendation) -> bool:
    """Whether it holds until an event or another model changes it."""
    return (PASSING | FOR_NOW).isdisjoint(answer.degraded_reasons)


def is_news(answer: Recommendation, known: bytes) -> bool:
    """Whether it is to be sent to a caller that has the answer with the digest `known`; empty: that has none."""
    return not known or (not is_passing(answer) and answer_digest(answer) != known)


def resume_token(digest: bytes) -> str:
    return token_text(_VERSION + digest, _CHECK_BYTES)


def digest_of_token(text: str) -> bytes:
    """Raises InvalidInput, naming `resume_token`, for what is no such token."""
    payload = payload_of(text, FIELD, len(_VERSION) + DIGEST_BYTES, _CHECK_BYTES)
    return payload[1:] if payload[:1] == _VERSION else _OF_ANOTHER_RELEASE
