"""The consistency token: which event a later read must at least reflect.

    (key, tenant, timeline, sequence) -> text of 32 characters, safe in a URL -> ConsistencyToken

The text is base64url of version (1 byte), hash of tenant and timeline (4), MAC (6), sequence (8) and a checksum of all
of them (5). The MAC is HMAC-SHA256 of version, hash and sequence, cut to 48 bits, under a key that is kept with the
state (`StateStore.token_key`).

A token is opaque to callers but not a secret: it grants no access, and a token of another tenant or shopper simply does
not apply to the caller who presents it. The key exists to detect tokens that stand for nothing:

- A token that outlived its state, for example a Redis that was lost and started empty. Sequences start again, so by its
  sequence alone it would soon count as reflected although its event is gone. The new state has a new key. (A state
  restored from a backup has its old key: there, such a token shows only as long as its sequence is not reached.)
- A forged or altered token. All it could change is whether its sender's own answers are labelled STALE_STATE. Hence 48
  bits: guessing a MAC takes some 10^14 requests, and gains an answer without the label. The same holds for the hash,
  which only tells whether a token is about the shopper who asks.

Neither is an error: the answer is labelled STALE_STATE at once. Text that is not a token at all is an error
(InvalidInput): the checksum tells the two apart, so that a caller's own tests find tokens that were cut or garbled.

Tokens of releases before the key have ten bytes of hash in the place of hash and MAC. They yield STALE_STATE: the state
cannot verify them, and accepting the old form would let anyone forge it. The answer is complete all the same, and the
label appears only while callers hold such tokens or servers of both releases share a Redis. Those older releases take a
token of this one for another shopper's, which asks nothing of them.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from functools import lru_cache

import msgspec

from recserv.pipeline.token_text import no_token, payload_of, token_text
from recserv.types import ShopperKey, ShopperState

FIELD = "consistency_token"

_VERSION = 1
_KEY_HASH_BYTES = 4
_MAC_BYTES = 6
_LAYOUT = struct.Struct(f">B{_KEY_HASH_BYTES}s{_MAC_BYTES}sQ")
_SIGNED = struct.Struct(f">B{_KEY_HASH_BYTES}sQ")
_CHECK_BYTES = 5
_KEYS_CACHED = 4096
_SEQUENCE_MAX = 2**63 - 1


class ConsistencyToken(msgspec.Struct, frozen=True, gc=False):
    key_hash: bytes
    mac: bytes
    sequence: int

    def made_with(self, key: bytes) -> bool:
        """Whether it was issued for the state that has this key. False for an empty key, which never issues tokens."""
        return bool(key) and hmac.compare_digest(self.mac, _mac(key, self.key_hash, self.sequence))

    def reflected_in(self, state: ShopperState, tenant: str, key: ShopperKey) -> bool:
        """Whether a state read for `key` reflects the event; also true if the token is about another shopper.

        A read of a known user's session may present the token of an event that named the user only.
        """
        if self.key_hash == _key_hash(tenant, key.session_id, key.user_id):
            return state.sequence >= self.sequence
        if key.session_id and key.user_id and self.key_hash == _key_hash(tenant, "", key.user_id):
            return state.user_sequence >= self.sequence
        return True


def encode_token(key: bytes, tenant: str, session_id: str, user_id: str, sequence: int) -> str:
    """The token of an event of the session, else of the user. `key`: see `StateStore.token_key`."""
    key_hash = _key_hash(tenant, session_id, user_id)
    payload = _LAYOUT.pack(_VERSION, key_hash, _mac(key, key_hash, sequence), sequence)
    return token_text(payload, _CHECK_BYTES)


def decode_token(text: str) -> ConsistencyToken:
    """Parses a token, unverified. Raises InvalidInput, naming `consistency_token`, for text that is not a token."""
    payload = payload_of(text, FIELD, _LAYOUT.size, _CHECK_BYTES)
    version, key_hash, mac, sequence = _LAYOUT.unpack(payload)
    if version != _VERSION or sequence > _SEQUENCE_MAX:
        raise no_token(FIELD, "is of a version that this server does not know")
    return ConsistencyToken(key_hash, mac, sequence)


@lru_cache(maxsize=_KEYS_CACHED)
def _key_hash(tenant: str, session_id: str, user_id: str) -> bytes:
    kind, owner = ("s", session_id) if session_id else ("u", user_id)
    scope = f"{len(tenant)}:{tenant}{kind}{owner}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(scope, digest_size=_KEY_HASH_BYTES).digest()


def _mac(key: bytes, key_hash: bytes, sequence: int) -> bytes:
    return hmac.digest(key, _SIGNED.pack(_VERSION, key_hash, sequence), "sha256")[:_MAC_BYTES]
