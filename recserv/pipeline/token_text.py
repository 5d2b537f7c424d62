"""Tokens as text: bytes that only we read, in characters that are safe in a URL and with a checksum.

    payload -> base64url of payload and checksum -> token_text -> payload_of, or InvalidInput

The checksum is not a secret. It tells tokens that were cut or garbled on their way from tokens that we issued, so that
a caller's own tests find such bugs.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from recserv.errors import InvalidInput, Violation


def token_text(payload: bytes, check_bytes: int) -> str:
    """Payload and checksum together must be a multiple of 3 bytes, so that there is no padding."""
    return base64.urlsafe_b64encode(payload + _check(payload, check_bytes)).decode("ascii")


def payload_of(text: str, field: str, payload_bytes: int, check_bytes: int) -> bytes:
    """The payload, of `payload_bytes` bytes. Raises InvalidInput, naming `field`, for any other text."""
    characters = (payload_bytes + check_bytes) * 4 // 3
    if len(text) != characters:
        raise no_token(field, f"{len(text)} characters long, a token has {characters}")
    try:
        raw = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise no_token(field, "is not base64url") from error
    if len(raw) != payload_bytes + check_bytes:
        raise no_token(field, "is not whole")
    payload, check = raw[:payload_bytes], raw[payload_bytes:]
    if check != _check(payload, check_bytes):
        raise no_token(field, "was changed on its way: the checksum does not match")
    return payload


def no_token(field: str, description: str) -> InvalidInput:
    return InvalidInput([Violation(field, description, "MALFORMED")])


def _check(payload: bytes, check_bytes: int) -> bytes:
    return hashlib.blake2b(payload, digest_size=check_bytes).digest()
