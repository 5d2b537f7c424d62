from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recserv.errors import InvalidInput
from recserv.pipeline.tokens import FIELD, decode_token, encode_token
from recserv.types import ShopperKey, ShopperState

texts = st.text(max_size=40)
sequences = st.integers(0, 2**63 - 1)


@given(texts, texts, texts, sequences)
def test_a_token_gives_back_its_sequence_to_its_own_shopper(
    tenant: str, session_id: str, user_id: str, sequence: int
) -> None:
    text = encode_token(tenant, session_id, user_id, sequence)
    token = decode_token(text)
    key = ShopperKey(session_id, user_id)
    assert token.sequence == sequence
    assert token.reflected_in(ShopperState(sequence=sequence), tenant, key)
    assert not sequence or not token.reflected_in(ShopperState(sequence=sequence - 1), tenant, key)
    assert set(text) <= set(string.ascii_letters + string.digits + "-_")
    assert len(text) == 32


def test_a_token_says_nothing_to_another_shopper_or_tenant() -> None:
    token = decode_token(encode_token("one", "s", "u", 5))
    before = ShopperState(sequence=4, user_sequence=4)
    assert not token.reflected_in(before, "one", ShopperKey("s", "u"))
    assert not token.reflected_in(before, "one", ShopperKey("s", ""))
    for tenant, key in [("two", ShopperKey("s", "u")), ("one", ShopperKey("", "s")), ("one", ShopperKey("t", "u"))]:
        assert token.reflected_in(before, tenant, key)


def test_a_token_of_a_users_event_counts_for_every_session_of_the_user() -> None:
    """By the sequence of the user: where the two are kept apart, the session's says nothing about the user's events."""
    token = decode_token(encode_token("t", "", "u", 5))
    assert not token.reflected_in(ShopperState(sequence=9, user_sequence=4), "t", ShopperKey("any", "u"))
    assert token.reflected_in(ShopperState(sequence=1, user_sequence=5), "t", ShopperKey("any", "u"))
    assert not token.reflected_in(ShopperState(sequence=4), "t", ShopperKey("", "u"))
    assert token.reflected_in(ShopperState(), "t", ShopperKey("any", ""))


@given(st.one_of(st.text(), st.text(string.ascii_letters + string.digits + "-_+/=", min_size=30, max_size=34)))
def test_garbage_is_invalid_input_that_names_the_field(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        decode_token(text)
    assert [violation.field for violation in caught.value.violations] == [FIELD]


@given(st.integers(0, 31), st.sampled_from(string.ascii_letters + string.digits + "-_"))
def test_a_token_with_one_character_changed_is_refused(position: int, character: str) -> None:
    text = encode_token("default", "session", "user", 1234)
    changed = text[:position] + character + text[position + 1 :]
    if changed == text:
        assert decode_token(changed).sequence == 1234
    else:
        with pytest.raises(InvalidInput):
            decode_token(changed)


def test_a_huge_token_is_refused_by_its_length() -> None:
    with pytest.raises(InvalidInput, match="characters long"):
        decode_token("A" * 4_000_000)
