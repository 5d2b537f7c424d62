from __future__ import annotations

import base64
import hashlib
import string
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recserv.errors import InvalidInput
from recserv.pipeline.tokens import FIELD, decode_token, encode_token
from recserv.types import ShopperKey, ShopperState
from tests.pipeline.support import TOKEN_KEY

texts = st.text(max_size=40)
sequences = st.integers(0, 2**63 - 1)
keys = st.binary(min_size=32, max_size=32)
CHECK_BYTES = 5

EARLIER_TOKEN = "ASUrioxXvvODVKsAAAAAAAAE0lu_00DA"
"""Of session "session", user "user" of tenant "default", sequence 1234: as releases before the key gave it."""


def with_checksum(payload: bytes) -> str:
    check = hashlib.blake2b(payload, digest_size=CHECK_BYTES).digest()
    return base64.urlsafe_b64encode(payload + check).decode("ascii")


def payload_of(token: str) -> bytes:
    return base64.urlsafe_b64decode(token)[:-CHECK_BYTES]


@given(keys, texts, texts, texts, sequences)
def test_a_token_gives_back_its_sequence_to_its_own_shopper(
    secret: bytes, tenant: str, session_id: str, user_id: str, sequence: int
) -> None:
    text = encode_token(secret, tenant, session_id, user_id, sequence)
    token = decode_token(text)
    key = ShopperKey(session_id, user_id)
    assert token.sequence == sequence
    assert token.made_with(secret)
    assert token.reflected_in(ShopperState(sequence=sequence), tenant, key)
    assert not sequence or not token.reflected_in(ShopperState(sequence=sequence - 1), tenant, key)
    assert set(text) <= set(string.ascii_letters + string.digits + "-_")
    assert len(text) == 32


def test_a_token_says_nothing_to_another_shopper_or_tenant() -> None:
    token = decode_token(encode_token(TOKEN_KEY, "one", "s", "u", 5))
    before = ShopperState(sequence=4, user_sequence=4)
    assert not token.reflected_in(before, "one", ShopperKey("s", "u"))
    assert not token.reflected_in(before, "one", ShopperKey("s", ""))
    for tenant, key in [("two", ShopperKey("s", "u")), ("one", ShopperKey("", "s")), ("one", ShopperKey("t", "u"))]:
        assert token.reflected_in(before, tenant, key)


def test_a_token_of_a_users_event_counts_for_every_session_of_the_user() -> None:
    """By the sequence of the user: where the two are kept apart, the session's says nothing about the user's events."""
    token = decode_token(encode_token(TOKEN_KEY, "t", "", "u", 5))
    assert not token.reflected_in(ShopperState(sequence=9, user_sequence=4), "t", ShopperKey("any", "u"))
    assert token.reflected_in(ShopperState(sequence=1, user_sequence=5), "t", ShopperKey("any", "u"))
    assert not token.reflected_in(ShopperState(sequence=4), "t", ShopperKey("", "u"))
    assert token.reflected_in(ShopperState(), "t", ShopperKey("any", ""))


# Forged and outlived


@given(st.data())
def test_no_altered_token_is_taken_for_one_of_ours_whatever_its_checksum(data: st.DataObject) -> None:
    """Bytes of the payload changed, and the checksum, which is no secret, made to fit."""
    payload = bytearray(payload_of(encode_token(TOKEN_KEY, "default", "session", "user", 1234)))
    places = data.draw(st.sets(st.integers(1, len(payload) - 1), min_size=1))
    for place in places:
        payload[place] ^= data.draw(st.integers(1, 255))
    # The version is not among them; a sequence beyond 63 bits is no token.
    payload[-8] &= 0x7F
    if bytes(payload) != payload_of(encode_token(TOKEN_KEY, "default", "session", "user", 1234)):
        assert not decode_token(with_checksum(bytes(payload))).made_with(TOKEN_KEY)


@given(keys, sequences)
def test_a_token_of_a_state_with_another_key_is_not_ours(other: bytes, sequence: int) -> None:
    token = decode_token(encode_token(other, "default", "session", "user", sequence))
    assert token.made_with(TOKEN_KEY) == (other == TOKEN_KEY)


@given(sequences)
def test_with_an_empty_key_no_token_is_accepted(sequence: int) -> None:
    assert not decode_token(encode_token(b"", "default", "session", "user", sequence)).made_with(b"")


def test_a_token_of_an_earlier_release_is_no_error_and_not_ours() -> None:
    token = decode_token(EARLIER_TOKEN)
    assert token.sequence == 1234
    assert not token.made_with(TOKEN_KEY)


def test_an_earlier_release_reads_a_token_as_one_about_somebody_else() -> None:
    """What it looks at: version, ten bytes of hash, the sequence, and the checksum of all."""
    token = encode_token(TOKEN_KEY, "default", "session", "user", 1234)
    version, key_hash, sequence = struct.unpack(">B10sQ", payload_of(token))
    assert with_checksum(payload_of(token)) == token
    assert (version, sequence) == (1, 1234)
    assert key_hash != payload_of(EARLIER_TOKEN)[1:11]


# No tokens


@given(st.one_of(st.text(), st.text(string.ascii_letters + string.digits + "-_+/=", min_size=30, max_size=34)))
def test_garbage_is_invalid_input_that_names_the_field(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        decode_token(text)
    assert [(violation.field, violation.reason) for violation in caught.value.violations] == [(FIELD, "MALFORMED")]


@given(st.integers(0, 31), st.sampled_from(string.ascii_letters + string.digits + "-_"))
def test_a_token_with_one_character_changed_is_refused(index: int, character: str) -> None:
    text = encode_token(TOKEN_KEY, "default", "session", "user", 1234)
    changed = text[:index] + character + text[index + 1 :]
    if changed == text:
        assert decode_token(changed).sequence == 1234
    else:
        with pytest.raises(InvalidInput):
            decode_token(changed)


def test_a_huge_token_is_refused_by_its_length() -> None:
    with pytest.raises(InvalidInput, match="characters long"):
        decode_token("A" * 4_000_000)
