"""How a store names timelines, profiles and event ids.

A key is text: the tenant, NUL, one letter for the kind of owner, the owner's id. A tenant never contains NUL, so keys
are unambiguous whatever the id contains.
"""

from __future__ import annotations

import hashlib

SESSION = "s"
USER = "u"
DIGEST_BYTES = 16


def timeline_key(tenant: str, session_id: str, user_id: str) -> str:
    """The live session and the scope of event ids: the session's, else the user's."""
    return f"{tenant}\0{SESSION}{session_id}" if session_id else f"{tenant}\0{USER}{user_id}"


def profile_key(tenant: str, session_id: str, user_id: str) -> str:
    """Cart, purchases and taste: the user's, else the session's (then called anonymous)."""
    return f"{tenant}\0{USER}{user_id}" if user_id else f"{tenant}\0{SESSION}{session_id}"


def is_anonymous(key: str) -> bool:
    """Whether a profile's key names a session."""
    return key[key.index("\0") + 1] == SESSION


def event_digest(timeline: str, event_id: str) -> bytes:
    """16 bytes that stand for an event id within its timeline. Raises UnicodeEncodeError for a lone surrogate."""
    scope = timeline.encode()
    return hashlib.blake2b(len(scope).to_bytes(4, "little") + scope + event_id.encode(), digest_size=16).digest()
