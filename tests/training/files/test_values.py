"""Values that people really have: ids, times, amounts, words, categories; and what the report says of them."""

from __future__ import annotations

import json
import math
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recserv import cli
from recserv.types import ID_BYTES_MAX
from tests.training.files.support import PAIRS, Builder, events

HEADER = "event_type,session_id,item_id"


def parquet(path: Path, **columns: Any) -> str:
    pq.write_table(pa.table(columns), path)
    return str(path)


@pytest.mark.parametrize(("precision", "scale"), [(20, 0), (38, 0), (76, 0), (38, 4), (60, 10)])
def test_ids_that_are_decimals_are_whole_numbers_of_any_width(shop: Builder, precision: int, scale: int) -> None:
    make = pa.decimal128 if precision <= 38 else pa.decimal256
    ids = [48_121_566_986_515, 48_121_566_986_516, 12_345_678_901_234_567_891, 12_345_678_901_234_567_892]
    numbers = pa.array([Decimal(one) for one in ids], make(precision, scale))
    path = parquet(shop.folder / "e.parquet", event_type=["view"] * 4, session_id=numbers, item_id=numbers)
    catalog = shop.write("c.csv", "item_id,title\n" + "".join(f"{one},T\n" for one in ids))
    built = shop.run("--events", path, "--catalog", catalog)
    assert built.data["catalog"]["events_share"] == 1.0
    assert sorted(built.model.items.ids) == sorted(map(str, ids))


def test_ids_whose_last_digits_a_float_has_lost_are_refused(shop: Builder) -> None:
    ids = pa.array([12_345_678_901_234_567_890.0, 7.0])
    built = shop.run(
        "--events", parquet(shop.folder / "e.parquet", event_type=["view"] * 2, session_id=["s"] * 2, item_id=ids)
    )
    assert built.code == 2
    assert "row 1, column item_id: not an id" in built.err


def test_blanks_around_ids_mean_nothing_in_any_file(shop: Builder) -> None:
    lines = "".join(
        json.dumps({"event_type": " view ", "session_id": f"{s} ", "item_id": f"\t{i}\u00a0"}) + "\n" for s, i in PAIRS
    )
    built = shop.build(lines, name="e.jsonl", c_csv='item_id,title\n" pot",Pot\nlid ,Lid\n rack ,Rack\n')
    assert built.data["catalog"]["events_share"] == 1.0
    assert sorted(built.model.items.ids) == ["lid", "pot", "rack"]


@pytest.mark.parametrize("bad", ["L\u0092S", "sock\u0085", "a\u0000b", "\u007f", "é" * (ID_BYTES_MAX // 2 + 1)])
def test_what_the_wire_refuses_as_an_id_is_refused_in_a_file(shop: Builder, bad: str) -> None:
    from recserv.server.validate import Violations

    wire = Violations()
    wire.required_id("event.item_id", bad)
    with pytest.raises(Exception, match="item_id"):
        wire.check()
    line = json.dumps({"event_type": "view", "session_id": "s1", "item_id": bad}) + "\n"
    built = shop.build(line, name="e.jsonl")
    assert built.code == 2
    assert "row 1, column item_id: not an id" in built.err


@pytest.mark.parametrize("word", ["NULL", "\\N", "undefined", "(not set)", "nan", "", "None", " null "])
def test_a_placeholder_such_as_null_is_a_missing_id(shop: Builder, word: str) -> None:
    for row in (f"view,{word},pot", f"view,s1,{word}"):
        built = shop.build(events() + row + "\n", "--skip-bad-rows")
        (bad,) = built.data["bad_rows"]
        assert (bad["problem"], bad["first_row"], bad["count"]) == ("empty", len(PAIRS) + 1, 1)
        assert word not in built.model.items.ids


def test_a_session_that_holds_many_events_is_reported(shop: Builder) -> None:
    rows = "".join(f"view,s{n},i{n % 20}\nview,s{n},i{n % 19}\n" for n in range(200))
    built = shop.build(f"{HEADER}\n{rows}" + "".join(f"view,0,i{n % 20}\n" for n in range(60)))
    assert built.data["lopsided_sessions"] == [{"session_id": "0", "events": 60}]
    assert "'0' alone holds 60 events, 13.0% of all" in built.out
    assert built.data["sessions_with_several"] == 201


@pytest.mark.parametrize("value", ['["pot"]', '[{"item_id": "pot"}]', '{"id": "pot"}'])
def test_a_list_in_the_item_id_ends_the_build_with_its_row(shop: Builder, value: str) -> None:
    good = '{"event_type": "view", "session_id": "s", "item_id": "pot"}\n'
    built = shop.build(good + good.replace('"pot"', value), name="e.jsonl")
    assert built.code == 2
    assert "row 2, column item_id: a list, not an id" in built.err


def test_a_list_of_a_typed_file_is_no_id_either(shop: Builder) -> None:
    path = parquet(shop.folder / "e.parquet", event_type=["view"], session_id=["s"], item_id=[["pot"]])
    assert "row 1, column item_id: a list, not an id" in shop.run("--events", path).err


MAY_2024 = {
    "utc": ("2024-05-01 00:00:00 UTC", "2024-05-01 00:00:30.5 UTC"),
    "offset": ("2024-05-01 02:00:00 +0200", "2024-04-30T20:00:30-04:00"),
    "day as a number": ("20240501", "20240501"),
    "moment as a number": ("20240501000000", "20240501000030"),
    "seconds": ("1714521600", "1714521630"),
    "milliseconds": ("1714521600000", "1714521630000"),
    "microseconds": ("1714521600000000", "1714521630000000"),
}


@pytest.mark.parametrize("notation", MAY_2024)
def test_times_of_any_notation_are_the_same_time(shop: Builder, notation: str) -> None:
    rows = "".join(f"view,{s},{i},{MAY_2024[notation][n % 2]}\n" for n, (s, i) in enumerate(PAIRS))
    built = shop.build(f"{HEADER},event_time\n{rows}")
    assert built.data["first_event_ms"] == 1_714_521_600_000
    assert 0 <= built.data["last_event_ms"] - 1_714_521_600_000 <= 30_500
    assert "2024-05-01 00:00 UTC" in built.out


@pytest.mark.parametrize("value", ["17", "20240230", "1970-01-01", "86400000"])
def test_what_can_be_no_time_of_this_shop_is_refused_with_its_value(shop: Builder, value: str) -> None:
    built = shop.build(f"{HEADER},event_time\nview,s,pot,{value}\n")
    assert built.code == 2
    assert "row 1, column event_time" in built.err
    assert repr(value) in built.err


def test_an_event_of_the_future_is_a_bad_row_and_changes_nothing(shop: Builder) -> None:
    rows = "".join(f"view,{s},{i},{1_714_521_600 + 3600 * n}\n" for n, (s, i) in enumerate(PAIRS))
    clean = shop.build(f"{HEADER},event_time\n{rows}").model
    popular, recent = clean.popular_items.tolist(), clean.trending_items.tolist()
    ahead = f"view,s9,rack,{int(time.time()) + 3600}\n"
    refused = shop.build(f"{HEADER},event_time\n{rows}{ahead}")
    assert f"row {len(PAIRS) + 1}, column event_time: more than 5 minutes ahead" in refused.err
    skipped = shop.build(f"{HEADER},event_time\n{rows}{ahead}", "--skip-bad-rows").model
    assert (skipped.popular_items.tolist(), skipped.trending_items.tolist()) == (popular, recent)


def test_a_time_up_to_five_minutes_ahead_is_a_clock_that_differs(tmp_path: Path) -> None:
    from recserv.training.dataset import read_events

    (tmp_path / "e.csv").write_text(f"{HEADER},event_time\nview,s,a,1714521900\n")
    assert len(read_events([str(tmp_path / "e.csv")], now_ms=1_714_521_600_000)) == 1


def prices(shop: Builder, values: list[str], *options: str) -> list[float]:
    names = ["pot", "lid", "rack", "pan", "cup"][: len(values)]
    rows = "".join(f"{name}\t{value}\n" for name, value in zip(names, values, strict=True))
    built = shop.build(events(), *options, "--allow-unknown-items", c_tsv=f"item_id\tprice\n{rows}")
    return [built.item(name).price for name in names]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["12,50", "1.299", "1.299,00"], [12.5, 1299, 1299]),
        (["12.50", "1,299", "1,299.00"], [12.5, 1299, 1299]),
        (["1.299", "0,99", "5"], [1299, 0.99, 5]),
        (["1.299", "2.5"], [1.299, 2.5]),
        (["9.50 EUR", "EUR 3", "$4.25", "2 000 kr", "1'299.50"], [9.5, 3, 4.25, 2000, 1299.5]),
        (["\u20ac 9,50", "19,- no", "from 14.99", "\u2014", "3"], [9.5, 0, 0, 0, 3]),
        (["12,50", "12.50", "1.299"], [12.5, 12.5, 0]),
        (["1e3", "nan", "inf"], [1000, 0, 0]),
    ],
)
def test_amounts_are_read_as_people_write_them(shop: Builder, values: list[str], expected: list[float]) -> None:
    assert prices(shop, values) == expected


def test_the_decimal_sign_can_be_told(shop: Builder) -> None:
    assert prices(shop, ["1.299", "2.500"], "--decimal", "comma") == [1299, 2500]
    assert prices(shop, ["1,299"], "--decimal", ",") == [1.299]


def test_a_price_that_is_none_costs_the_price_and_not_the_product(shop: Builder) -> None:
    lines = "".join(
        json.dumps({"item_id": i, "title": i, "price": p}) + "\n"
        for i, p in (("pot", "?"), ("lid", "3"), ("rack", "ask"))
    )
    built = shop.build(events(), c_jsonl=lines)
    assert (built.item("pot").price, built.item("lid").price) == (0.0, 3.0)
    (found,) = built.data["values_left_out"]
    assert (found["file"], found["column"], found["count"], found["first_row"]) == ("c.jsonl", "price", 2, 1)
    assert "2 in c.jsonl, column price: not a price (such as '?')" in built.out


def test_nan_in_quantity_or_value_reads_as_missing(shop: Builder) -> None:
    values = pa.array([1.0, math.nan], pa.float64(), from_pandas=False)
    path = parquet(
        shop.folder / "e.parquet",
        event_type=["purchase", "view"],
        session_id=["s", "s"],
        item_id=["pot", "lid"],
        value=values,
        quantity=values,
    )
    built = shop.run("--events", path)
    assert (built.data["events"], built.data["values_left_out"]) == (2, [])


@pytest.mark.parametrize(
    ("word", "available"),
    [
        *[(word, True) for word in ("in_stock", "in stock", "preorder", "backorder", "https://schema.org/InStock")],
        *[(word, False) for word in ("out_of_stock", "Out of stock", "https://schema.org/OutOfStock", "sold out")],
    ],
)
def test_availability_words_become_available_or_not(shop: Builder, word: str, available: bool) -> None:
    feed = "id\ttitle\tprice\tavailability\n" + "".join(f"{i}\t{i}\t9.50 EUR\t{word}\n" for i in ("pot", "lid", "rack"))
    built = shop.build(events().replace("item_id", "id"), "--catalog-mapping", "merchant-feed", c_tsv=feed)
    item = built.item("pot")
    assert (item.available, item.price, item.currency_code) == (available, 9.5, "EUR")


def test_a_category_is_a_path_and_its_last_name_means_all_paths_that_end_with_it(shop: Builder) -> None:
    rows = {"pot": "Women > Shoes", "lid": "Men > Shoes", "rack": "Home > Body\\, Bath > Towels"}
    csv = "item_id\tcategories\n" + "".join(f"{item}\t{path}\n" for item, path in rows.items())
    lines = "".join(json.dumps({"item_id": item, "categories": [path]}) + "\n" for item, path in rows.items())
    for built in (shop.build(events(), c_tsv=csv), shop.build(events(), c_jsonl=lines)):
        model = built.model
        assert built.item("pot").categories == ("Women", "Women > Shoes")
        assert built.item("rack").categories[-1] == "Home > Body, Bath > Towels"
        members = {}
        for name in ("Women > Shoes", "Men > Shoes", "Shoes", "Towels"):
            at = model.category_number(name)
            begin, end = model.category_popular_offsets[at : at + 2]
            members[name] = {model.items.id(one) for one in model.category_popular_items[begin:end].tolist()}
        assert members == {
            "Women > Shoes": {"pot"},
            "Men > Shoes": {"lid"},
            "Shoes": {"pot", "lid"},
            "Towels": {"rack"},
        }


def test_several_paths_of_a_cell_are_parted_as_the_mapping_says(shop: Builder) -> None:
    cell = '"Clothing > Hoodies, Sale, Body Care > Perfume\\, Cologne"'
    products = "SKU,Name,Categories,In stock?,Regular price,Sale price\n" + "".join(
        f"{item},{item},{cell},1,9,{sale}\n" for item, sale in (("pot", 7), ("lid", ""), ("rack", ""))
    )
    built = shop.build(events(), "--catalog-mapping", "woocommerce", c_csv=products)
    categories = ("Clothing", "Clothing > Hoodies", "Sale", "Body Care", "Body Care > Perfume, Cologne")
    assert built.item("pot").categories == categories
    assert [built.item(name).price for name in ("pot", "lid")] == [7.0, 9.0]


def test_check_shows_the_report_and_two_builds_are_the_same_bytes(
    shop: Builder, capsys: pytest.CaptureFixture[str]
) -> None:
    first = shop.build(events() + "view,,pot\n", "--skip-bad-rows")
    version, told = first.model.version, first.data
    assert shop.build(events() + "view,,pot\n", "--skip-bad-rows").model.version == version
    assert cli.main(["check", str(shop.folder / "model")]) == 0
    out = capsys.readouterr().out
    assert "no times: the order of the rows is taken" in out
    assert "1 in e.csv, column session_id: empty, first in row 7" in out
    assert cli.main(["check", "--json", str(shop.folder / "model")]) == 0
    assert json.loads(capsys.readouterr().out)["data"] == told
