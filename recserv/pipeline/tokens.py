"""The consistency token: which event a later read must at least reflect.

    (tenant, timeline, sequence) -> text of 32 characters, safe in a URL -> ConsistencyToken

The text is base64url of version (1 byte), hash of tenant and timeline (10), sequence (8), checksum of these (5). It is
opaque to callers and no secret: it lets nobody read anything, and a token of another tenant or shopper simply does not
apply to the one who presents it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from functools import lru_cache

import msgspec

from recserv.errors import InvalidInput, Violation
from recserv.types import ShopperKey, ShopperState

FIELD = "consistency_token"

_VERSION = 1
_KEY_HASH_BYTES = 10
_LAYOUT = struct.Struct(f">B{_KEY_HASH_BYTES}sQ")
_CHECK_BYTES = 5
_TEXT_CHARS = (_LAYOUT.size + _CHECK_BYTES) * 4 // 3
_KEYS_CACHED = 4096
_SEQUENCE_MAX = 2**63 - 1


class ConsistencyToken(msgspec.Struct, frozen=True, gc=False):
    key_hash: bytes
    sequence: int

    def reflected_in(self, state: ShopperState, tenant: str, key: ShopperKey) -> bool:
        """Whether a state read for `key` has reached the event; also true if the token is about somebody else.

        A read of a known user's session may present the token of an event that named the user only.
        """
        if self.key_hash == _key_hash(tenant, key.session_id, key.user_id):
            return state.sequence >= self.sequence
        if key.session_id and key.user_id and self.key_hash == _key_hash(tenant, "", key.user_id):
            return state.user_sequence >= self.sequence
        return True


def encode_token(tenant: str, session_id: str, user_id: str, sequence: int) -> str:
    """The token of an event of that session, else of that user."""
    payload = _LAYOUT.pack(_VERSION, _key_hash(tenant, session_id, user_id), sequence)
    return base64.urlsafe_b64encode(payload + _check(payload)).decode("ascii")


def decode_token(text: str) -> ConsistencyToken:
    """Raises InvalidInput, naming `consistency_token`, for whatever `encode_token` did not write."""
    if len(text) != _TEXT_CHARS:
        raise _invalid(f"{len(text)} characters long, a token has {_TEXT_CHARS}")
    try:
        raw = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise _invalid("is not base64url") from error
    if len(raw) != _LAYOUT.size + _CHECK_BYTES:
        raise _invalid("is not whole")
    payload, check = raw[: _LAYOUT.size], raw[_LAYOUT.size :]
    version, key_hash, sequence = _LAYOUT.unpack(payload)
    if check != _check(payload):
        raise _invalid("was changed on its way: the checksum does not match")
    if version != _VERSION or sequence > _SEQUENCE_MAX:
        raise _invalid("is of a version that this server does not know")
    return ConsistencyToken(key_hash, sequence)


@lru_cache(maxsize=_KEYS_CACHED)
def _key_hash(tenant: str, session_id: str, user_id: str) -> bytes:
    kind, owner = ("s", session_id) if session_id else ("u", user_id)
    scope = f"{len(tenant)}:{tenant}{kind}{owner}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(scope, digest_size=_KEY_HASH_BYTES).digest()


def _check(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=_CHECK_BYTES).digest()


def _invalid(description: str) -> InvalidInput:
    return InvalidInput([Violation(FIELD, description)])
