from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recserv.stores.packed import (
    PROFILE_HEAD,
    SESSION_HEAD,
    Undecodable,
    pack_profile,
    pack_session,
    unpack_profile,
    unpack_session,
)
from recserv.types import Profile, Purchase, SessionEvent, SessionState, Taste

ids = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
times = st.integers(-(2**40), 2**53)
finite = st.floats(allow_nan=False, allow_infinity=False)
whole = st.integers(-(2**63), 2**63 - 1)
events = st.builds(SessionEvent, st.integers(1, 9), ids, times, times, st.integers(1, 2**53), ids, whole, finite, whole)
sessions = st.builds(SessionState, st.lists(events, min_size=1, max_size=30).map(tuple), st.integers(1, 2**53))
profiles = st.builds(
    Profile,
    st.dictionaries(ids, whole, max_size=100),
    st.lists(st.builds(Purchase, ids, times), max_size=200).map(tuple),
    st.lists(st.builds(Taste, ids, finite, times), max_size=50).map(tuple),
    st.integers(0, 2**53),
    st.integers(1, 2**53),
    times,
)


@given(sessions)
def test_a_session_survives_packing(session: SessionState) -> None:
    assert unpack_session(pack_session(session)) == session


@given(profiles)
def test_a_profile_survives_packing(profile: Profile) -> None:
    unpacked = unpack_profile(pack_profile(profile))
    assert unpacked == profile
    assert list(unpacked.cart) == list(profile.cart)


def test_an_empty_session_and_profile_survive_packing() -> None:
    assert unpack_session(pack_session(SessionState())) == SessionState()
    assert unpack_profile(pack_profile(Profile())) == Profile()


@given(st.binary(max_size=400))
@example(b"")
@example(b"\x01" + b"\0" * (SESSION_HEAD.size - 1))
@example(b"\x01" + b"\xff" * (PROFILE_HEAD.size - 1))
def test_garbage_is_undecodable_and_nothing_else(data: bytes) -> None:
    for unpack in (unpack_session, unpack_profile):
        with contextlib.suppress(Undecodable):
            unpack(data)


@given(sessions, st.data())
def test_a_session_that_is_cut_off_or_longer_is_undecodable(session: SessionState, data: st.DataObject) -> None:
    packed = pack_session(session)
    cut = data.draw(st.integers(0, len(packed) - 1))
    for broken in (packed[:cut], packed + b"\0"):
        with pytest.raises(Undecodable):
            unpack_session(broken)


@given(profiles, st.data())
def test_a_damaged_byte_gives_another_value_or_undecodable(profile: Profile, data: st.DataObject) -> None:
    packed = bytearray(pack_profile(profile))
    place = data.draw(st.integers(0, len(packed) - 1))
    packed[place] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(Undecodable):
        assert unpack_profile(bytes(packed)) is not None


@given(profiles, st.data())
def test_a_profile_that_is_cut_off_or_longer_is_undecodable(profile: Profile, data: st.DataObject) -> None:
    packed = pack_profile(profile)
    cut = data.draw(st.integers(0, len(packed) - 1))
    for broken in (packed[:cut], packed + b"\0"):
        with pytest.raises(Undecodable):
            unpack_profile(broken)


def test_other_versions_are_undecodable() -> None:
    for packed, unpack in ((pack_session(SessionState()), unpack_session), (pack_profile(Profile()), unpack_profile)):
        with pytest.raises(Undecodable):
            unpack(bytes([2]) + packed[1:])
