"""What sessions and profiles take in memory, in bytes, from their contents: close enough to bound memory by. What
may be shared (an id that is in the cart and among the purchases) is counted each time.

The constants were measured with tracemalloc on CPython 3.11, 64 bits; a test measures again and compares.
"""

from __future__ import annotations

from sys import getsizeof

from recserv.types import Profile

SESSION_BYTES = 232
"""Of a session without its name and its events."""
_EVENT_BYTES = 201
_ENTRY_BYTES = 150
_PROFILE_BYTES = 330
_CART_BYTES = 48
_PURCHASE_BYTES = 76
_TASTE_BYTES = 108


def event_bytes(item_id: str, search_query: str) -> int:
    """Of an event in a session."""
    return _EVENT_BYTES + getsizeof(item_id) + (getsizeof(search_query) if search_query else 0)


def kept_profile_bytes(key: str, profile: Profile) -> int:
    """Of a profile in a cache, under its key."""
    return _ENTRY_BYTES + getsizeof(key) + profile_bytes(profile)


def profile_bytes(profile: Profile) -> int:
    """Ids are taken to be as long as the newest: those of a shop are much alike, and to look at each takes too long."""
    size = _PROFILE_BYTES
    if profile.cart:
        size += len(profile.cart) * (_CART_BYTES + getsizeof(next(reversed(profile.cart))))
    if profile.purchases:
        size += len(profile.purchases) * (_PURCHASE_BYTES + getsizeof(profile.purchases[-1].item_id))
    if profile.taste:
        size += len(profile.taste) * (_TASTE_BYTES + getsizeof(profile.taste[-1].item_id))
    return size
