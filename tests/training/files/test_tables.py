"""Tables that people really have: separators, quotation marks, headers, line ends, encodings, parts."""

from __future__ import annotations

import bz2
import codecs
import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from tests.training.files.support import PAIRS, Builder, events

HEADER = "event_type,session_id,item_id"


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_any_line_end_ends_a_line(shop: Builder, line_end: str) -> None:
    built = shop.build(events().replace("\n", line_end))
    assert (built.code, built.data["events"]) == (0, len(PAIRS))


@pytest.mark.parametrize("name", ["e.csv", "e.tsv", "e.jsonl"])
def test_a_file_of_one_endless_line_is_refused(shop: Builder, name: str) -> None:
    built = shop.build("view,s,a," * 300_000, name=name)
    assert built.code == 2
    assert str(shop.folder / name) in built.err


def test_lone_carriage_returns_end_json_lines_too(shop: Builder) -> None:
    lines = [f'{{"event_type": "view", "session_id": "{s}", "item_id": "{i}"}}' for s, i in PAIRS]
    assert shop.build("\r".join(lines), name="e.jsonl").data["events"] == len(PAIRS)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_the_one_that_all_lines_agree_on(shop: Builder, separator: str) -> None:
    header = separator.join(
        ("event_type", "session_id", "item_id", "note (a, b; c| d, e, f; g)".replace(separator, "/"))
    )
    rows = [separator.join(("view", *pair, "x")) for pair in PAIRS]
    assert shop.build("\n".join((header, *rows))).data["unused_columns"] != []


def test_a_separator_can_be_told(shop: Builder) -> None:
    odd = events("^")
    assert shop.build(odd).code == 2
    assert shop.build(odd, "--delimiter", "^").data["events"] == len(PAIRS)
    assert shop.build(events("\t"), "--delimiter", "tab").code == 0
    assert "--delimiter" in shop.build(odd, "--delimiter", "long").err


def test_a_header_cell_may_hold_a_line_break(shop: Builder) -> None:
    catalog = 'item_id,"units\nin stock",title,price\npot,4,Pot,9.5\nlid,1,Lid,3\nrack,2,Rack,7\n'
    built = shop.build(events(), c_csv=catalog)
    assert (built.item("pot").title, built.item("pot").price) == ("Pot", 9.5)


def test_header_cells_that_nobody_asked_for_may_be_empty_or_repeat(shop: Builder) -> None:
    rows = "".join(f"view,{s},{i},,1,2\n" for s, i in PAIRS)
    assert shop.build(f"{HEADER},,x,x\n{rows}").data["events"] == len(PAIRS)
    twice = shop.build(f"{HEADER},item_id\n" + "".join(f"view,{s},{i},{i}\n" for s, i in PAIRS))
    assert twice.code == 2
    assert "item_id: the file has this column twice" in twice.err


def test_separators_at_the_end_of_the_header_or_of_every_row_are_no_columns(shop: Builder) -> None:
    bare = "".join(f"view,{s},{i}\n" for s, i in PAIRS)
    assert shop.build(f"{HEADER},,\n{bare}").code == 0
    assert shop.build(f"{HEADER}\n" + bare.replace("\n", ",,\n")).code == 0


def test_rows_without_any_value_are_no_rows(shop: Builder) -> None:
    built = shop.build(events() + ",,\n ,, \n")
    assert (built.data["rows_blank"], built.data["rows_bad"], built.data["events"]) == (2, 0, len(PAIRS))


def test_a_quotation_mark_at_the_beginning_of_a_title_is_text_where_tabs_part_columns(shop: Builder) -> None:
    titles = ['"10 inch" pot', '"Best lid', 'Rack 24"', "Plain"]
    rows = "".join(f"{item}\t{title}\t5\n" for item, title in zip(("pot", "lid", "rack", "pan"), titles, strict=True))
    built = shop.build(events(), c_tsv=f"item_id\ttitle\tprice\n{rows}")
    assert [built.item(name).title for name in ("pot", "lid", "rack", "pan")] == titles


@pytest.mark.parametrize(
    "rows",
    [
        'pot,Pot,1\nlid,"Lid,2\nrack,Rack,3\n',
        'pot,Pot,1\nlid,"Lid" of steel,2\nrack,Rack,3\n',
        'pot,Pot,1\nlid,"Lid,2\nrack,Rack 24",3\n',
    ],
)
def test_a_quotation_mark_that_takes_rows_with_it_is_refused_where_it_opens(shop: Builder, rows: str) -> None:
    built = shop.build(events(), c_csv=f"item_id,title,price\n{rows}")
    assert built.code == 2
    assert f"{shop.folder / 'c.csv'}, row 2: a quotation mark opens here" in built.err
    assert "--quotes off" in built.err
    assert shop.build(events(), "--quotes", "off", c_csv=f"item_id,title,price\n{rows}").code == 0


def test_such_a_mark_far_behind_the_beginning_is_refused_too(shop: Builder) -> None:
    rows = [f"p{n},{'title ' * 8}{n},{n}\n" for n in range(9000)]
    rows[8000] = 'p8000,"Half,1\n'
    built = shop.build(events(), c_csv="item_id,title,price\n" + "".join(rows))
    assert built.code == 2
    assert "row 8001: a quotation mark opens here and is not closed" in built.err


def test_marks_inside_of_a_value_and_values_over_several_lines_are_fine(shop: Builder) -> None:
    catalog = 'item_id,title,price\npot,24" pot,1\nlid,"Lid, ""light""\nor heavy",2\nrack,Rack,3\n'
    built = shop.build(events(), c_csv=catalog)
    assert built.item("pot").title == '24" pot'
    assert built.item("lid").title == 'Lid, "light"\nor heavy'


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_unicode_of_any_width_is_read(shop: Builder, encoding: str) -> None:
    catalog = "item_id,title\npot,Marmite à feu\nlid,Крышка\nrack,Étagère\n"
    built = shop.build(events().encode(encoding), c_csv=catalog.encode(encoding))
    assert built.item("lid").title == "Крышка"


def test_windows_1252_is_named_and_read_when_told(shop: Builder) -> None:
    catalog = "item_id,title\npot,Crème brûlée €\nlid,Lid\nrack,Rack\n".encode("windows-1252")
    refused = shop.build(events(), c_csv=catalog)
    assert refused.code == 2
    assert "row 1, column title: not UTF-8 text; --encoding windows-1252" in refused.err
    assert shop.build(events(), "--encoding", "windows-1252", c_csv=catalog).item("pot").title == "Crème brûlée €"
    assert "no such encoding" in shop.build(events(), "--encoding", "klingon").err


@pytest.mark.parametrize("packed", ["gz", "zst", "bz2"])
@pytest.mark.parametrize("named", [True, False])
def test_packed_files_are_known_by_their_bytes(shop: Builder, packed: str, named: bool) -> None:
    pack = {"gz": gzip.compress, "bz2": bz2.compress, "zst": lambda data: pa.compress(data, "zstd", asbytes=True)}[
        packed
    ]
    name = f"e.csv.{packed}" if named else "e.csv"
    assert shop.build(pack(events().encode()), name=name).data["events"] == len(PAIRS)


def test_a_folder_of_part_files_is_read_without_what_lies_beside_them(shop: Builder) -> None:
    shop.write("log/day=1/part-00000", events())
    shop.write("log/day=2/part-00001.csv", f"{HEADER}\n")
    shop.write("log/day=2/part-00002.csv", "")
    shop.write("log/_SUCCESS", "")
    shop.write("log/.part-00000.crc", b"\x00\x01")
    built = shop.run("--events", str(shop.folder / "log"))
    assert (built.data["files"], built.data["events"]) == (2, len(PAIRS))


def test_a_folder_without_a_row_is_refused(shop: Builder) -> None:
    shop.write("log/part-00000.csv", f"{HEADER}\n")
    shop.write("log/part-00001.csv", f"{HEADER}\n")
    built = shop.run("--events", str(shop.folder / "log"))
    assert built.code == 2
    assert "no rows" in built.err
    (shop.folder / "empty").mkdir()
    assert "no file with rows" in shop.run("--events", str(shop.folder / "empty")).err


def test_a_json_array_is_read_like_json_lines(shop: Builder) -> None:
    objects = [f'{{"event_type": "view", "session_id": "{s}",\n "item_id": "{i}"}}' for s, i in PAIRS]
    whole = "[\n" + ",\n".join(objects) + "\n]\n"
    assert shop.build(whole, name="e.json").data["events"] == len(PAIRS)
    cut = shop.build(whole[: len(whole) // 2], name="e.json")
    assert cut.code == 2
    assert "row 4: the array of objects is broken here" in cut.err


def test_a_json_array_larger_than_a_piece_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recserv.training import json_records, text
    from recserv.training.dataset import read_events

    monkeypatch.setattr(json_records, "_PIECE_BYTES", 7)
    monkeypatch.setattr(text, "HEAD_BYTES", 5)
    objects = ",".join(f'{{"event_type":"view","session_id":"{s}","item_id":"{i} ä"}}' for s, i in PAIRS)
    (tmp_path / "e.json").write_text(f"[{objects}]")
    log = read_events([str(tmp_path / "e.json")])
    assert [log.item_ids[code] for code in log.item] == [f"{item} ä" for _, item in PAIRS]


def test_a_spreadsheet_is_refused_with_what_to_do(shop: Builder) -> None:
    built = shop.build(b"PK\x03\x04" + b"\0" * 50, name="e.xlsx")
    assert built.code == 2
    assert "save it as CSV" in built.err


@pytest.mark.parametrize("name", ["part-00000-c000", "export.dat", "log.2024"])
def test_a_name_that_says_nothing_is_no_matter(shop: Builder, name: str) -> None:
    assert shop.build(events("|"), name=name).data["events"] == len(PAIRS)
    assert shop.build('{"event_type": "view", "session_id": "s", "item_id": "a"}\n', name=name).code == 0
    assert "unknown kind of file" in shop.build("words alone", name=name).err


def test_excels_first_line_that_names_the_separator_is_no_header(shop: Builder) -> None:
    assert shop.build("sep=;\n" + events(";")).data["events"] == len(PAIRS)
    assert shop.build(codecs.BOM_UTF8 + ("sep=;\r\n" + events(";")).encode()).code == 0


@pytest.mark.parametrize("quotes", ["on", "off"])
def test_a_broken_row_that_is_not_utf8_is_counted_like_any_other(shop: Builder, quotes: str) -> None:
    rows = b"".join(f"view,{s},{i},\u00e9\n".encode() for s, i in PAIRS)
    text = HEADER.encode() + b",note\n" + rows + b"view,s1,caf\xe9\n" + rows + b"view,s1,p\xe9t,x\n" + rows
    built = shop.build(text, "--skip-bad-rows", "--quotes", quotes)
    found = [(one["problem"], one["first_row"], one["count"]) for one in built.data["bad_rows"]]
    assert found == [("3 values where the header names 4", 7, 1), ("not an id", 14, 1)]
    assert built.data["events"] == 3 * len(PAIRS)
