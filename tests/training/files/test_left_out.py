"""Rows that are no events, told by a rule before anything in them is judged; products that only events describe."""

from __future__ import annotations

import pytest

from recserv import cli
from tests.training.files.support import Builder

HEADER = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country\n"
GOOD = [
    ("1", "pot", "POT"),
    ("1", "lid", "LID"),
    ("2", "pot", "POT, RED"),
    ("2", "rack", "RACK"),
    ("3", "pot", "POT"),
    ("3", "lid", ""),
]
RETURNS = ("C4,pot,POT,-1,2010-01-04 09:00:00,2.5,7,France", "5,lid,damaged,-30,2010-01-04 09:00:00,0.0,,France")
FEES = ("1,POST,POSTAGE,1,2010-01-01 09:00:00,18.0,7,France", "A9,B,Adjust bad debt,1,2010-01-01 09:00:00,9,,France")


def invoices(*more: str) -> str:
    rows = [f'{number},{code},"{title}",2,2010-01-0{number} 08:00:00,2.5,7,France' for number, code, title in GOOD]
    return HEADER + "\n".join([*rows, *more]) + "\n"


def test_invoice_lines_become_purchases_and_their_descriptions_a_catalogue(shop: Builder) -> None:
    path = shop.write("invoices.csv", invoices(*RETURNS, *FEES))
    files = ("--events", path, "--catalog", path)
    built = shop.run(*files, "--mapping", "online-retail", "--catalog-mapping", "online-retail")
    assert built.code == 0, built.err
    assert built.taken() == {"": ("purchase", len(GOOD))}
    assert [one["count"] for one in built.data["rows_by_rule"]] == [2, 1, 0, 1]
    assert "2 if session_id ~ ^[AC]; 1 if quantity <= 0" in built.out
    titles = {item: built.item(item).title for item in ("pot", "lid", "rack")}
    assert titles == {"pot": "POT", "lid": "LID", "rack": "RACK"}
    assert built.model.items.row("POST") < 0
    assert built.data["unused_columns"] == ["Country"]


def test_a_rule_takes_rows_away_before_they_are_judged(shop: Builder) -> None:
    columns = [f"--column={ours}={theirs}" for ours, theirs in (("session_id", "Invoice"), ("item_id", "StockCode"))]
    options = (*columns, "--default-event-type", "purchase", "--column=value=Price")
    refund = "R6,pot,POT,1,2010-01-04 09:00:00,-2.5,7,France"
    assert "negative" in shop.build(invoices(refund), *options).err
    built = shop.build(invoices(refund), *options, "--leave-out", "Price < 0")
    assert (built.code, built.data["events"], built.data["rows_bad"]) == (0, len(GOOD), 0)


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        ("Description ~ POT", 3),
        ("item_id = lid", 4),
        ("Price >= 2.5", None),
        ("Quantity > 1e3", 6),
        ("Country != France", None),
    ],
)
def test_a_rule_compares_numbers_texts_or_an_expression(shop: Builder, rule: str, left: int | None) -> None:
    built = shop.build(invoices(), "--mapping", "online-retail", "--leave-out", rule)
    if left is None:
        assert built.code == 2
    else:
        assert built.data["events"] == left


def test_inspect_counts_what_the_rules_of_a_mapping_take_away(
    shop: Builder, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shop.write("invoices.csv", invoices(*RETURNS, *FEES))
    assert cli.main(["inspect", path]) == 0
    told = capsys.readouterr().out
    assert "taken for events by --mapping online-retail" in told
    assert "rows left out: 2 if session_id ~ ^[AC]; 1 if quantity <= 0" in told
    assert "StockCode" in told.split("-> item_id")[0]


@pytest.mark.parametrize("rule", ["Quantity", "Quantity < few", "Invoice ~ (", "< 3"])
def test_an_invalid_leave_out_rule_ends_the_build_with_its_text(shop: Builder, rule: str) -> None:
    built = shop.build(invoices(), "--mapping", "online-retail", "--leave-out", rule)
    assert built.code == 2
    assert f"--leave-out {rule}" in built.err


def test_a_rule_about_a_column_that_is_not_there_is_refused_without_praising_the_mapping_in_use(shop: Builder) -> None:
    built = shop.build(invoices(), "--mapping", "online-retail", "--leave-out", "Colour = red")
    assert (built.code, "column Colour" in built.err) == (2, True)
    assert "online-retail fits" not in built.err


@pytest.mark.parametrize(("repeats", "title"), [("first", "POT"), ("last", "POT, BLUE"), ("commonest", "POT")])
def test_of_a_product_that_comes_again_the_row_counts_that_the_mapping_says(
    shop: Builder, repeats: str, title: str
) -> None:
    rows = 'item_id,title,price\npot,POT,1\npot,POT,2\npot,"POT, BLUE",3\nlid,LID,1\nrack,RACK,1\n'
    own = shop.write("own.toml", f'[catalog.read]\nrepeats = "{repeats}"\n')
    events = "event_type,session_id,item_id\n" + "".join(f"view,{n},{code}\n" for n, code, _ in GOOD)
    built = shop.build(events, "--catalog-mapping", own, c_csv=rows)
    assert built.item("pot").title == title
    assert built.item("pot").price == {"first": 1.0, "last": 3.0, "commonest": 2.0}[repeats]
    refused = shop.build(events, c_csv=rows)
    assert "repeats" in refused.err


def test_files_that_are_not_there_are_missed_before_any_is_read(shop: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object, **__: object) -> None:
        raise AssertionError("read the events first")

    monkeypatch.setattr("recserv.training.build.read_events", read)
    path = shop.write("invoices.csv", invoices())
    built = shop.run("--events", path, "--mapping", "online-retail", "--catalog", str(shop.folder / "none.csv"))
    assert (built.code, "none.csv: no such file" in built.err) == (2, True)


def test_numbers_of_a_rule_are_written_as_those_of_the_file(shop: Builder) -> None:
    """By itself 1.000 could be one."""
    text = "Invoice;StockCode;Price\n" + "".join(f"{n};{item};1.000\n" for n in (1, 2) for item in ("pot", "lid"))
    columns = [f"--column={ours}={theirs}" for ours, theirs in (("session_id", "Invoice"), ("item_id", "StockCode"))]
    options = (*columns, "--default-event-type", "purchase", "--leave-out", "Price < 1000")
    assert shop.build(text, *options).code == 2
    built = shop.build(text, *options, "--decimal", "comma")
    assert (built.code, built.data["events"]) == (0, 4), built.err
