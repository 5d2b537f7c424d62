from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from recserv.stores.known_keys import KnownKeys


@given(st.sets(st.text(max_size=20), max_size=50))
def test_what_was_added_is_known(keys):
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
