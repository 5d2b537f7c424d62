from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from recserv.stores.known_keys import KnownKeys


@given(st.sets(st.text(max_size=20), max_size=50))
def test_a_key_that_was_added_is_always_known(keys):
    known = KnownKeys()
    for key in keys:
        known.add(key)
    assert all(key in known for key in keys)


def test_nothing_is_known_at_first():
    known = KnownKeys()
    assert not any(f"key-{n}" in known for n in range(1000))


def test_strangers_are_seldom_taken_for_known():
    known = KnownKeys(100_000)
    for n in range(200_000):
        known.add(f"key-{n}")
    assert sum(f"stranger-{n}" in known for n in range(20_000)) < 200


@given(st.integers(0, 10**9), st.integers(64, 10**6))
def test_however_many_keys_there_are_it_stays_within_its_bytes(expected, bytes_max):
    assert bytes_max // 2 < KnownKeys(expected, bytes_max).bytes <= bytes_max


@given(st.integers(0, 10**5))
def test_a_bound_above_the_need_does_not_enlarge_the_filter(expected):
    assert KnownKeys(expected, 1 << 40).bytes == KnownKeys(expected).bytes


def test_the_filter_allocates_the_bytes_that_it_reports():
    tracemalloc.start()
    try:
        known = KnownKeys(10**6, 500_000)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert known.bytes == 262_144
    assert taken - known.bytes < 2_000


@given(st.sets(st.text(max_size=20), max_size=200))
def test_what_was_added_is_known_however_small_it_is(keys):
    known = KnownKeys(10**6, 64)
    for key in keys:
        known.add(key)
    assert all(key in known for key in keys)
