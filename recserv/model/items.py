"""The item table: ids to rows and back, and the catalogue's fields decoded only when somebody asks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from recserv.errors import ModelError
from recserv.model.layout import ITEM_IDS_FILE, ITEMS_FILE
from recserv.types import Item

DIGESTS_MAX = 50_000

Offsets = npt.NDArray[np.int64]

_ENCODER = msgspec.msgpack.Encoder(order="deterministic")
_DECODER = msgspec.msgpack.Decoder(Item)


class _Title(msgspec.Struct):
    title: str = ""


_TITLE_DECODER = msgspec.msgpack.Decoder(_Title)


def pack(chunks: Iterable[bytes]) -> tuple[bytes, Offsets]:
    """Byte strings one after the other, and where each begins: int64 [len + 1]."""
    parts = list(chunks)
    offsets = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(part) for part in parts], out=offsets[1:])
    return b"".join(parts), offsets


def pack_ids(ids: Sequence[str]) -> tuple[bytes, Offsets]:
    return pack(item_id.encode() for item_id in ids)


def pack_items(items: Iterable[Item]) -> tuple[bytes, Offsets]:
    return pack(_ENCODER.encode(item) for item in items)


class ItemTable:
    """Rows 0..n-1 of a model and the items they stand for. Immutable; safe to share."""

    __slots__ = ("_data", "_digests", "_item_rows", "_offsets", "ids")

    def __init__(self, ids: list[str], data: memoryview | None, offsets: Offsets | None):
        """`data` None: nothing but ids is known."""
        self.ids = ids
        self._item_rows = {item_id: item_row for item_row, item_id in enumerate(ids)}
        self._data = data
        self._offsets = [] if offsets is None else offsets.tolist()
        self._digests: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, item_id: str) -> int:
        """-1 for an id that the model does not know."""
        return self._item_rows.get(item_id, -1)

    def id(self, item_row: int) -> str:
        return self.ids[item_row]

    def get(self, item_row: int) -> Item:
        if self._data is None:
            return Item(item_id=self.ids[item_row])
        return _DECODER.decode(self._encoded(item_row))

    def title(self, item_row: int) -> str:
        """Empty where the catalogue has none."""
        return "" if self._data is None else _TITLE_DECODER.decode(self._encoded(item_row)).title

    def digest(self, item_row: int) -> bytes:
        """16 bytes that stand for everything the catalogue says of an item."""
        known = self._digests.get(item_row)
        if known is None:
            content = self.ids[item_row].encode() if self._data is None else self._encoded(item_row)
            if len(self._digests) >= DIGESTS_MAX:
                self._digests.clear()
            known = self._digests[item_row] = hashlib.blake2b(content, digest_size=16).digest()
        return known

    def _encoded(self, item_row: int) -> memoryview:
        assert self._data is not None
        return self._data[self._offsets[item_row] : self._offsets[item_row + 1]]


def decode_ids(data: memoryview, offsets: npt.NDArray[Any]) -> list[str]:
    """The ids of `item_ids.bin`; `offsets` are already known to be in bounds. Raises ModelError."""
    content, places = bytes(data), offsets.tolist()
    try:
        ids = [content[begin:end].decode() for begin, end in pairwise(places)]
    except UnicodeDecodeError as error:
        raise ModelError(ITEM_IDS_FILE, f"not UTF-8: {error.reason}") from error
    if len(set(ids)) != len(ids):
        raise ModelError(ITEM_IDS_FILE, "names an item twice")
    if "" in ids:
        raise ModelError(ITEM_IDS_FILE, "has an empty id")
    return ids


def check_items(table: ItemTable) -> None:
    """Decodes every item once, so that no request meets one that cannot be. Raises ModelError."""
    for item_row, item_id in enumerate(table.ids):
        try:
            found = table.get(item_row).item_id
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ModelError(ITEMS_FILE, f"item {item_row} cannot be decoded: {error}") from error
        if found != item_id:
            raise ModelError(ITEMS_FILE, f"item {item_row} is {found!r}; {ITEM_IDS_FILE} says {item_id!r}")
