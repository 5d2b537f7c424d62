from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from recserv.errors import DatasetError, UsageError
from recserv.model.snapshot import load_snapshot
from recserv.training.build import BESIDE_EVENTS_MIN, build
from recserv.training.options import BuildOptions
from tests.factories import tiny_log, write_event_file

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
RETAIL = SHARED / "online_retail" / "online_retail_2009_2010.parquet"
DIGINETICA = SHARED / "diginetica" / "train_sessions.txt.gz"

needs_retail = pytest.mark.skipif(not RETAIL.exists(), reason="the Online Retail data is not there")
needs_diginetica = pytest.mark.skipif(not DIGINETICA.exists(), reason="the Diginetica data is not there")

RETAIL_COLUMNS = {
    "session_id": "Invoice",
    "item_id": "StockCode",
    "event_time": "InvoiceDate",
    "quantity": "Quantity",
    "value": "Price",
    "user_id": "Customer ID",
}


def events_file(folder: Path) -> str:
    return str(write_event_file(folder / "events.parquet", tiny_log(60, 80)))


def catalog_file(folder: Path, rows: str) -> str:
    path = folder / "catalog.csv"
    path.write_text("item_id,title,categories,price\n" + rows)
    return str(path)


def test_a_build_from_files_makes_a_whole_model_and_reports_it(tmp_path: Path) -> None:
    rows = "".join(f"item-{i},Lamp {i},Home|Lamps,{i}.5\n" for i in range(50)) + "new,Lamp new,Home|Lamps,5\n"
    options = BuildOptions(
        events=(events_file(tmp_path),), catalog=catalog_file(tmp_path, rows), out=str(tmp_path / "model"), dimensions=8
    )
    stages: list[str] = []
    report = build(options, lambda stage, _done, _total: stages.append(stage))
    model = load_snapshot(tmp_path / "model")
    assert report.model_version == model.version
    assert report.items == model.item_count == 55
    assert report.items_cold == 1
    assert report.items_outside_catalog == 4
    assert report.behaviour == model.behaviour == "viewed"
    assert report.data.bad_rows == ()
    assert report.sessions == 80
    assert stages[0] == "reading events.parquet"
    assert "embeddings" in stages
    cold = model.items.row("new")
    assert model.embedding_origin[cold] == 2
    assert model.items.title(cold) == "Lamp new"
    outside = model.items.row("item-53")
    assert not model.available[outside]
    assert outside not in model.popular_items
    assert cold in model.category_popular_items


def test_two_builds_give_the_same_files_but_for_the_seal(tmp_path: Path) -> None:
    events = (str(write_event_file(tmp_path / "events.parquet", tiny_log(60, 2500))),)
    reports = [build(BuildOptions(events=events, out=str(tmp_path / n), dimensions=8, epochs=1.0)) for n in "ab"]
    assert reports[0].ranker is not None
    assert reports[0].model_version == reports[1].model_version
    for path in (tmp_path / "a").iterdir():
        if path.name != "seal.json":
            assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_without_a_catalogue_every_item_is_available(tmp_path: Path) -> None:
    report = build(BuildOptions(events=(events_file(tmp_path),), out=str(tmp_path / "model"), dimensions=8))
    model = load_snapshot(tmp_path / "model")
    assert model.available.all()
    assert report.categories == 0
    assert report.items_outside_catalog == 0


def test_a_single_event_is_enough_for_a_model(tmp_path: Path) -> None:
    (tmp_path / "e.txt").write_text("only\n")
    report = build(BuildOptions(events=(str(tmp_path / "e.txt"),), out=str(tmp_path / "model")))
    model = load_snapshot(tmp_path / "model")
    assert report.items_without_vector == 1
    assert model.popular_items.tolist() == [0]
    assert model.index_path is not None


def test_bad_input_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("event_type,session_id,item_id\nview,s,a\nhop,s,a\n")
    with pytest.raises(DatasetError, match="row 2, column event_type"):
        build(BuildOptions(events=(str(tmp_path / "e.csv"),), out=str(tmp_path / "model")))
    assert [path.name for path in tmp_path.iterdir()] == ["e.csv"]
    report = build(BuildOptions(events=(str(tmp_path / "e.csv"),), out=str(tmp_path / "model"), skip_bad_rows=True))
    assert report.skipped_rows == 1
    assert report.data.bad_rows[0].first_row == 2
    assert report.data.bad_rows[0].example == "'hop'"
    assert load_snapshot(tmp_path / "model").manifest.training.skipped_rows == 1


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"events": ()}, "--events"),
        ({"dimensions": 0}, "dimensions 0"),
        ({"seed": -1}, "--seed -1"),
        ({"columns": {"colour": "Colour"}}, "--column colour"),
        ({"out": "."}, "something other than a model"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_read(
    changes: dict[str, object], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "precious").write_text("")
    monkeypatch.chdir(tmp_path)
    options: dict[str, object] = {"events": ("nowhere.csv",), "out": "model"}
    with pytest.raises(UsageError, match=problem):
        build(BuildOptions(**(options | changes)))  # type: ignore[arg-type]


@needs_retail
def test_dirty_sales_data_stops_the_build_at_the_first_bad_row(tmp_path: Path) -> None:
    options = BuildOptions(
        events=(str(RETAIL),), out=str(tmp_path / "model"), columns=RETAIL_COLUMNS, default_event_type="purchase"
    )
    with pytest.raises(DatasetError, match=r"row 179404, column Price: negative: '-53594.36'"):
        build(options)


@needs_retail
@pytest.mark.slow
def test_dirty_sales_data_is_cleaned_counted_and_built(tmp_path: Path) -> None:
    sales = pq.read_table(RETAIL, columns=["StockCode", "Description"]).to_pylist()
    # One code is there with a blank behind it too; blanks around ids mean nothing.
    titles = {row["StockCode"].strip(): row["Description"] or "" for row in sales}
    catalog = tmp_path / "catalog.csv"
    quoted = ('{},"{}"\n'.format(code, title.replace('"', '""')) for code, title in titles.items())
    catalog.write_text("item_id,title\n" + "".join(quoted))
    options = BuildOptions(
        events=(str(RETAIL),),
        catalog=str(catalog),
        out=str(tmp_path / "model"),
        columns=RETAIL_COLUMNS,
        default_event_type="purchase",
        skip_bad_rows=True,
    )
    report = build(options)
    assert report.behaviour == "bought"
    assert (report.events, report.skipped_rows) == (513_132, 3)
    assert "12,326 rows with a negative quantity are returns: left out" in report.data.notes
    assert {found.column for found in report.data.bad_rows} == {"Price"}
    assert report.items_outside_catalog == 0
    assert load_snapshot(tmp_path / "model").version == report.model_version


def test_the_ranker_learned_in_a_process_beside_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = (str(write_event_file(tmp_path / "events.parquet", tiny_log(60, 2500))),)
    versions, told = [], []
    for least in (0, BESIDE_EVENTS_MIN):
        monkeypatch.setattr("recserv.training.build.BESIDE_EVENTS_MIN", least)
        monkeypatch.setattr("os.cpu_count", lambda: 2)
        stages: list[str] = []
        options = BuildOptions(
            events=events, out=str(tmp_path / str(least)), dimensions=8, epochs=1.0, rank_examples=300
        )
        report = build(options, lambda stage, _done, _total, stages=stages: stages.append(stage))
        assert report.ranker is not None
        versions.append(report.model_version)
        told.append(sorted(stage for stage in stages if stage.startswith(("older", "examples", "ranker"))))
    assert versions[0] == versions[1]
    assert told[0] == told[1] != []


@needs_diginetica
@pytest.mark.slow
def test_diginetica_is_built_twice_alike(tmp_path: Path) -> None:
    short = {"epochs": 0.3, "rank_examples": 5_000, "dimensions": 32}
    reports = [build(BuildOptions(events=(str(DIGINETICA),), out=str(tmp_path / name), **short)) for name in "ab"]
    assert reports[0].ranker is not None
    assert reports[0].events == 906_140
    assert reports[0].sessions == 186_670
    assert reports[0].items == 43_097
    assert reports[0].model_version == reports[1].model_version
    model = load_snapshot(tmp_path / "a")
    assert np.diff(model.covisitation_offsets).max() <= 100


@pytest.mark.slow
def test_the_complete_journey_is_built_with_all_its_products(tmp_path: Path) -> None:
    from recserv.training.complete_journey import prepare

    events, catalog = prepare(tmp_path)
    options = BuildOptions(
        events=(str(events),), catalog=str(catalog), out=str(tmp_path / "model"), epochs=0.1, dimensions=32
    )
    report = build(options)
    model = load_snapshot(tmp_path / "model")
    assert report.events == 1_469_307
    assert report.items - report.items_outside_catalog == 92_331
    assert report.items - report.items_cold == 68_509
    assert report.items_without_vector <= report.items_outside_catalog
    assert report.behaviour == "bought"
    assert model.category_number("PASTRY") >= 0
