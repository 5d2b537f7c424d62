from __future__ import annotations

from sys import getsizeof

import msgspec

from recserv.resilience.lru import LruCache


def text_bytes(key: str, text: str) -> int:
    return getsizeof(key) + getsizeof(text)


def text(number: int) -> str:
    """Never the same object, and none that was encoded before: CPython keeps the UTF-8 of those beside them."""
    return "".join(["Café ", str(number)])


def test_a_text_that_was_encoded_meanwhile_takes_away_no_more_than_it_brought() -> None:
    cache: LruCache[str, str] = LruCache(4, 1 << 20, text_bytes)
    for number in range(20):
        title = text(number)
        before = getsizeof(title)
        cache.put(str(number), title)
        msgspec.msgpack.encode(title)
        assert getsizeof(title) > before
    held = sum(text_bytes(str(number), text(number)) for number in range(16, 20))
    assert (len(cache), cache.bytes) == (4, held)
    cache.put("19", text(1))
    cache.drop("18")
    cache.drop("nobody")
    assert cache.bytes == sum(text_bytes(str(key), text(number)) for key, number in ((16, 16), (17, 17), (19, 1)))
    for number in range(20):
        cache.drop(str(number))
    assert (len(cache), cache.bytes) == (0, 0)


def test_what_is_too_much_goes_by_the_bytes_it_came_with_and_the_newest_stays() -> None:
    cache: LruCache[str, bytes] = LruCache(100, 10, lambda key, value: len(value))
    for number, size in enumerate((4, 4, 4, 11)):
        cache.put(str(number), bytes(size))
        assert cache.bytes == (4, 8, 8, 11)[number]
    assert (len(cache), cache.evictions) == (1, 3)
    cache.put("3", bytes(2))
    assert (len(cache), cache.bytes) == (1, 2)
