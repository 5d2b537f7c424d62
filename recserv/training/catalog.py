"""Catalogue files into columns: what is known of every product, judged value by value.

Lists (`categories`, `tags`) may be lists, JSON arrays or text with `|` or `>` between the names; `attributes` an
object or its JSON text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recserv.errors import DatasetError
from recserv.training import columns
from recserv.training.dataset import check_mapping
from recserv.training.problems import BadRows, Progress, RowChecks, no_progress
from recserv.training.readers import RawBatch, Wanted, read_batches
from recserv.types import Item

TEXT_COLUMNS = ("title", "description", "brand", "currency_code", "image_uri")
LIST_COLUMNS = ("categories", "tags")
CATALOG_COLUMNS = ("item_id", *TEXT_COLUMNS, *LIST_COLUMNS, "price", "available", "attributes")

_LIST = pa.list_(pa.string())
_SEPARATOR = re.compile(r"[|>]")


@dataclass(frozen=True)
class Catalog:
    """One row a product. `text` holds the TEXT_COLUMNS and `lists` the LIST_COLUMNS as Arrow arrays without nulls;
    `price` float64 [n], 0 where unknown; `available` bool [n]; `attributes` one mapping a row or None for none at all.
    """

    ids: list[str]
    text: Mapping[str, Any]
    lists: Mapping[str, Any]
    price: npt.NDArray[np.float64]
    available: npt.NDArray[np.bool_]
    attributes: list[dict[str, str]] | None

    def __len__(self) -> int:
        return len(self.ids)

    def items(self) -> Iterator[Item]:
        text = [self.text[name].to_pylist() for name in TEXT_COLUMNS]
        lists = [self.lists[name].to_pylist() for name in LIST_COLUMNS]
        attributes = self.attributes if self.attributes is not None else [{}] * len(self)
        rows = zip(self.ids, *text, *lists, self.price.tolist(), self.available.tolist(), attributes, strict=True)
        for item_id, title, description, brand, currency, image, categories, tags, price, available, more in rows:
            yield Item(
                item_id=item_id,
                title=title,
                description=description,
                brand=brand,
                categories=tuple(categories),
                tags=tuple(tags),
                price=price,
                currency_code=currency,
                available=available,
                image_uri=image,
                attributes=more,
            )


def read_catalog(
    path: str,
    *,
    mapping: Mapping[str, str] | None = None,
    problems: BadRows | None = None,
    progress: Progress = no_progress,
) -> Catalog:
    """The products of a file. An id that comes twice is a bad row. Raises DatasetError, UsageError."""
    mapping = mapping or {}
    check_mapping(mapping, CATALOG_COLUMNS)
    problems = problems or BadRows(skip=False)
    seen: set[str] = set()
    parts = []
    # The mapping is mostly meant for the events: the catalogue may well have an item_id.
    for raw in read_batches(path, Wanted(CATALOG_COLUMNS, ("item_id",), mapping, own_names=True), problems):
        progress(f"reading {path.rsplit('/', 1)[-1]}", raw.done, raw.total)
        try:
            parts.append(_decode(raw, problems, seen))
        except pa.ArrowException as error:
            raise DatasetError(path, f"a column has a type that cannot be read: {error}") from error
    if not any(len(part) for part in parts):
        raise DatasetError(path, "the file has no rows" if not problems.total else "no good row is left")
    return _joined(parts)


def _joined(parts: list[Catalog]) -> Catalog:
    attributes = None
    if any(part.attributes is not None for part in parts):
        attributes = [row for part in parts for row in (part.attributes or [{}] * len(part))]
    return Catalog(
        ids=[item_id for part in parts for item_id in part.ids],
        text={name: pa.concat_arrays([part.text[name] for part in parts]) for name in TEXT_COLUMNS},
        lists={name: pa.concat_arrays([part.lists[name] for part in parts]) for name in LIST_COLUMNS},
        price=np.concatenate([part.price for part in parts]),
        available=np.concatenate([part.available for part in parts]),
        attributes=attributes,
    )


def _decode(raw: RawBatch, problems: BadRows, seen: set[str]) -> Catalog:
    checks = RowChecks(raw.path, raw.rows, raw.sources)
    size = len(raw.rows)
    ids = _ids(raw, checks, seen)
    text = {name: _text(raw, checks, name) for name in TEXT_COLUMNS}
    lists = {name: _list(raw, checks, name) for name in LIST_COLUMNS}
    price = np.zeros(size)
    if "price" in raw.columns:
        price, bad = columns.as_number(raw.columns["price"])
        checks.bad("price", "not a finite number", bad, raw.columns["price"])
        checks.bad("price", "negative", price < 0, raw.columns["price"])
    available = np.ones(size, bool)
    if "available" in raw.columns:
        available, bad = columns.as_boolean(raw.columns["available"], missing=True)
        checks.bad("available", "neither true nor false", bad, raw.columns["available"])
    attributes = _attributes(raw, checks) if "attributes" in raw.columns else None
    good = checks.settle(problems)
    keep = pa.array(good)
    return Catalog(
        ids=[item_id for item_id, fine in zip(ids, good.tolist(), strict=True) if fine],
        text={name: column.filter(keep) for name, column in text.items()},
        lists={name: column.filter(keep) for name, column in lists.items()},
        price=np.nan_to_num(price[good]),
        available=available[good],
        attributes=None if attributes is None else [attributes[row] for row in np.flatnonzero(good)],
    )


def _ids(raw: RawBatch, checks: RowChecks, seen: set[str]) -> list[str]:
    encoded, missing, bad = columns.as_ids(raw.columns["item_id"])
    checks.bad("item_id", "not an id", bad, raw.columns["item_id"])
    checks.bad("item_id", "empty", missing)
    ids: list[str] = encoded.to_pylist()
    again = np.zeros(len(ids), bool)
    for row, item_id in enumerate(ids):
        if item_id in seen:
            again[row] = True
        elif checks.good[row]:
            seen.add(item_id)
    checks.bad("item_id", "this item id was there before", again, raw.columns["item_id"])
    return ids


def _text(raw: RawBatch, checks: RowChecks, name: str) -> Any:
    if name not in raw.columns:
        return pa.nulls(len(raw.rows), pa.string()).fill_null("")
    text, bad = columns.as_text(raw.columns[name])
    checks.bad(name, "not UTF-8 text", bad)
    return pc.utf8_trim_whitespace(pc.fill_null(text, ""))


def _list(raw: RawBatch, checks: RowChecks, name: str) -> Any:
    column = raw.columns.get(name)
    if column is None:
        return pa.array([[]], _LIST).take(pa.array(np.zeros(len(raw.rows), np.int32)))
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        values = [_names(value or ()) for value in column.to_pylist()]
        return pa.array([value or [] for value in values], _LIST)
    text, bad = columns.as_text(column)
    encoded = pc.fill_null(text, "").dictionary_encode()
    parsed = [_parse_list(value) for value in encoded.dictionary.to_pylist()]
    broken = np.array([value is None for value in parsed], bool)
    indices = encoded.indices
    checks.bad(name, "not a list of names", bad | broken[indices.to_numpy(zero_copy_only=False)], column)
    return pa.array([value or [] for value in parsed], _LIST).take(indices)


def _parse_list(text: str) -> list[str] | None:
    """None: begins like a JSON array and is none."""
    if not text.lstrip().startswith("["):
        return _names(_SEPARATOR.split(text))
    try:
        return _names(msgspec.json.decode(text, type=list[str]))
    except msgspec.MsgspecError:
        return None


def _names(values: Any) -> list[str]:
    """Each name once, in order, without empty ones."""
    return list(dict.fromkeys(name for value in values if value is not None and (name := str(value).strip())))


def _attributes(raw: RawBatch, checks: RowChecks) -> list[dict[str, str]]:
    column = raw.columns["attributes"]
    parsed: list[dict[str, str] | None] = [_parse_attributes(value) for value in column.to_pylist()]
    checks.bad("attributes", "not an object", np.array([value is None for value in parsed], bool))
    return [value or {} for value in parsed]


def _parse_attributes(value: Any) -> dict[str, str] | None:
    if isinstance(value, bytes | str):
        try:
            value = msgspec.json.decode(value) if value.strip() else {}
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
    if isinstance(value, list):  # An Arrow map.
        value = dict(value)
    if value is None:
        return {}
    if not isinstance(value, dict):
        return None
    return {str(key): str(entry) for key, entry in value.items() if entry is not None}
