from __future__ import annotations

from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recserv.errors import DatasetError, UsageError
from recserv.training.catalog import read_catalog
from recserv.training.notes import Notes
from recserv.training.problems import BadRows
from recserv.types import Item

LAMP = Item(
    item_id="1",
    title="Lamp",
    description="bright",
    brand="Lux",
    categories=("Home", "Lighting"),
    tags=("new", "LED"),
    price=9.5,
    currency_code="EUR",
    available=False,
    image_uri="https://example.org/1.png",
    attributes={"colour": "red"},
    group_id="lamps",
)


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_every_field_of_an_item_is_read_from_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(msgspec.json.encode(LAMP) + b'\n{"item_id": 2}\n')
    assert list(read_catalog(str(path)).items()) == [LAMP, Item(item_id="2")]


def test_every_field_of_an_item_is_read_from_parquet(tmp_path: Path) -> None:
    fields = msgspec.to_builtins(LAMP)
    table = {name: [value, None] for name, value in fields.items() if name not in ("item_id", "attributes")}
    attributes = pa.array([list(LAMP.attributes.items()), None], pa.map_(pa.string(), pa.string()))
    pq.write_table(pa.table({"item_id": [1, 2], **table, "attributes": attributes}), tmp_path / "c.parquet")
    assert list(read_catalog(str(tmp_path / "c.parquet")).items()) == [LAMP, Item(item_id="2")]


def test_every_field_of_an_item_is_read_from_csv(tmp_path: Path) -> None:
    path = write(
        tmp_path / "c.csv",
        "item_id,title,description,brand,categories,tags,price,currency_code,available,image_uri,attributes,group_id\n"
        '1, Lamp ,bright,Lux,Home|Lighting,"[""new"",""LED""]",9.5,EUR,no,https://example.org/1.png,'
        '"{""colour"":""red""}",lamps\n'
        "2,,,,,,,,,,,\n",
    )
    assert list(read_catalog(path).items()) == [LAMP, Item(item_id="2")]


def test_a_category_named_twice_counts_once(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", "item_id,categories\n1,Toys|Toys||Dolls\n")
    assert next(read_catalog(path).items()).categories == ("Toys", "Dolls")


def test_mapped_names_hold_where_the_file_has_them(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", "StockCode,Description\n1,Lamp\n")
    assert next(read_catalog(path, mapping={"item_id": "StockCode", "title": "Description"}).items()).title == "Lamp"
    own = write(tmp_path / "own.csv", "item_id,title\n1,Lamp\n")
    assert read_catalog(own, mapping={"item_id": "StockCode"}).ids == ["1"]
    with pytest.raises(UsageError, match="no such column"):
        read_catalog(own, mapping={"colour": "Colour"})


BAD_ROWS = {
    "duplicate id": ("1,Lamp,1,,,", "item_id", "was there before"),
    "no id": (",Lamp,1,,,", "item_id", "empty"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_named_or_counted(tmp_path: Path, case: str) -> None:
    row, column, problem = BAD_ROWS[case]
    path = write(
        tmp_path / "c.csv", f"item_id,title,price,available,categories,attributes\n1,Lamp,1,,,\n{row}\n3,Bowl,,,,\n"
    )
    with pytest.raises(DatasetError) as caught:
        read_catalog(path)
    assert (caught.value.path, caught.value.row, caught.value.column) == (path, 2, column)
    assert problem in caught.value.problem
    problems = BadRows(skip=True)
    assert read_catalog(path, problems=problems).ids == ["1", "3"]
    assert problems.total == 1


LEFT_OUT = {
    "infinite price": ("2,Lamp,inf,,,", "price", "not a price", "'inf'"),
    "price that is no number": ("2,Lamp,from 14.99,,,", "price", "not a price", "'from 14.99'"),
    "negative price": ("2,Lamp,-1,,,", "price", "negative", "'-1'"),
    "availability": ("2,Lamp,,perhaps,,", "available", "neither true nor false", "'perhaps'"),
    "list": ('2,Lamp,,,"[1,",', "categories", "not a list of names", "'[1,'"),
    "attributes": ("2,Lamp,,,,5", "attributes", "not an object", "'5'"),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_an_optional_value_that_cannot_be_read_is_left_out_and_counted(tmp_path: Path, case: str) -> None:
    row, column, problem, example = LEFT_OUT[case]
    path = write(
        tmp_path / "c.csv", f"item_id,title,price,available,categories,attributes\n1,Lamp,1,,,\n{row}\n3,Bowl,,,,\n"
    )
    notes = Notes()
    assert list(read_catalog(path, notes=notes).items())[1] == Item(item_id="2", title="Lamp")
    (found,) = notes.values_left_out()
    assert (found.column, found.first_row, found.count, found.example) == (column, 2, 1, example)
    assert found.problem.startswith(problem)


def test_title_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_bytes(b"item_id,title\n1,caf\xe9\n")
    with pytest.raises(DatasetError, match="not UTF-8") as caught:
        read_catalog(str(tmp_path / "c.csv"))
    assert (caught.value.row, caught.value.column) == (1, "title")


def test_a_catalogue_without_rows_or_ids_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no rows"):
        read_catalog(write(tmp_path / "c.csv", "item_id\n"))
    with pytest.raises(DatasetError) as caught:
        read_catalog(write(tmp_path / "c.csv", "title\nLamp\n"))
    assert caught.value.column == "item_id"
    with pytest.raises(DatasetError, match="hold events"):
        read_catalog(write(tmp_path / "c.txt", "1 2\n"))
