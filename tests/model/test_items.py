from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recserv.errors import ModelError
from recserv.model.items import ItemTable, check_items, decode_ids, pack, pack_ids, pack_items
from recserv.types import Item

text = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
ids = st.lists(text.filter(bool), unique=True, max_size=20)


@given(st.lists(st.binary(max_size=30), max_size=20))
def test_packed_chunks_are_found_again(chunks: list[bytes]) -> None:
    data, offsets = pack(chunks)
    assert [data[begin:end] for begin, end in pairwise(offsets)] == chunks


@given(ids)
def test_ids_survive_the_round_trip(names: list[str]) -> None:
    data, offsets = pack_ids(names)
    assert decode_ids(memoryview(data), offsets) == names


@given(
    st.builds(
        Item,
        item_id=text,
        title=text,
        description=text,
        brand=text,
        categories=st.lists(text).map(tuple),
        tags=st.lists(text).map(tuple),
        price=st.floats(0, 1e12),
        currency_code=text,
        available=st.booleans(),
        image_uri=text,
        attributes=st.dictionaries(text, text),
    )
)
def test_items_survive_the_round_trip(item: Item) -> None:
    data, offsets = pack_items([Item(item_id="first"), item])
    table = ItemTable(["first", item.item_id], memoryview(data), offsets)
    assert table.get(1) == item
    assert table.title(1) == item.title
    check_items(table)


def test_an_item_table_without_data_has_ids_and_no_titles() -> None:
    table = ItemTable(["a", "b"], None, None)
    assert table.get(1) == Item(item_id="b")
    assert table.title(1) == ""


@pytest.mark.parametrize(
    ("data", "offsets", "problem"),
    [(b"aa", [0, 1, 2], "twice"), (b"a", [0, 1, 1], "empty id"), (b"\xff", [0, 1], "not UTF-8")],
)
def test_bad_ids_are_refused(data: bytes, offsets: list[int], problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        decode_ids(memoryview(data), np.array(offsets, np.int64))


def test_an_item_under_the_wrong_id_is_refused() -> None:
    data, offsets = pack_items([Item(item_id="a")])
    with pytest.raises(ModelError, match=r"items\.bin: item 0 is 'a'"):
        check_items(ItemTable(["b"], memoryview(data), offsets))
