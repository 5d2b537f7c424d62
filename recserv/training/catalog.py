"""Reads catalogue files into columns, one row a product, checking each value.

Lists (`categories`, `tags`) may be lists, JSON arrays or text with `|` between the entries (a mapping may say another
sign); each category is a path (`category_paths`); `attributes` an object or its JSON text. Prices are text in most
feeds: how they are written is seen from the column as a whole. Rows with the same `group_id` are variants of one
product.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recserv.errors import DatasetError
from recserv.training import columns
from recserv.training.amounts import Amount, amounts
from recserv.training.category_paths import CategoryPaths, Parse
from recserv.training.category_paths import names as _names
from recserv.training.dataset import check_mapping
from recserv.training.files import expand
from recserv.training.mapped import MappedBatch, Wanted
from recserv.training.mapping_tables import Repeats, TableMapping, combined
from recserv.training.notes import Notes, leave_out
from recserv.training.problems import BadRows, Progress, RowChecks, no_progress
from recserv.training.readers import read_batches
from recserv.training.text import ENCODING_HINT
from recserv.types import Item

TEXT_COLUMNS = ("title", "description", "brand", "currency_code", "image_uri")
LIST_COLUMNS = ("categories", "tags")
CATALOG_COLUMNS = ("item_id", *TEXT_COLUMNS, *LIST_COLUMNS, "price", "available", "attributes", "group_id")

_AGAIN = "this item id was there before (where that is meant, a mapping's `repeats` says which row counts)"
_LIST = pa.list_(pa.string())
_SEPARATOR = re.compile(r"[|>]")


@dataclass(frozen=True)
class Catalog:
    """One row a product. `text` holds the TEXT_COLUMNS and `lists` the LIST_COLUMNS as Arrow arrays without nulls;
    `price` float64 [n], 0 where unknown; `available` bool [n]; `attributes` one mapping a row and `groups` one
    group id, "" for none: either None for none at all.
    """

    ids: list[str]
    text: Mapping[str, Any]
    lists: Mapping[str, Any]
    price: npt.NDArray[np.float64]
    available: npt.NDArray[np.bool_]
    attributes: list[dict[str, str]] | None
    groups: list[str] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, rows: npt.NDArray[np.int64]) -> Catalog:
        """Some of the products, in the order of `rows`."""
        picked = pa.array(rows)
        return Catalog(
            ids=[self.ids[row] for row in rows.tolist()],
            text={name: column.take(picked) for name, column in self.text.items()},
            lists={name: column.take(picked) for name, column in self.lists.items()},
            price=self.price[rows],
            available=self.available[rows],
            attributes=None if self.attributes is None else [self.attributes[row] for row in rows.tolist()],
            groups=None if self.groups is None else [self.groups[row] for row in rows.tolist()],
        )

    def items(self) -> Iterator[Item]:
        text = [self.text[name].to_pylist() for name in TEXT_COLUMNS]
        lists = [self.lists[name].to_pylist() for name in LIST_COLUMNS]
        attributes = self.attributes if self.attributes is not None else [{}] * len(self)
        groups = self.groups if self.groups is not None else [""] * len(self)
        flags = (self.price.tolist(), self.available.tolist(), attributes, groups)
        rows = zip(self.ids, *text, *lists, *flags, strict=True)
        for (
            item_id,
            title,
            description,
            brand,
            currency,
            image,
            categories,
            tags,
            price,
            available,
            more,
            group,
        ) in rows:
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
                group_id=group,
            )


def read_catalog(
    path: str,
    *,
    mapping: Mapping[str, str] | None = None,
    table: TableMapping | None = None,
    problems: BadRows | None = None,
    notes: Notes | None = None,
    progress: Progress = no_progress,
) -> Catalog:
    """The products of a file or of a folder of files. A repeated id is a bad row; an optional value that cannot
    be read is left out. `mapping` gives the name in the file by ours, over those of `table`. Raises
    DatasetError, UsageError.
    """
    mapping = mapping or {}
    check_mapping(mapping, CATALOG_COLUMNS)
    problems = problems or BadRows(skip=False)
    table = _told(mapping, table or TableMapping())
    decoder = CatalogDecoder(table, problems, notes or Notes())
    for part in expand([path]):
        for raw in read_batches(part, decoder.wanted, problems, notes):
            progress(f"reading {part.rsplit('/', 1)[-1]}", raw.done, raw.total)
            try:
                decoder.add(raw)
            except pa.ArrowException as error:
                raise DatasetError(part, f"a column has a type that cannot be read: {error}") from error
    if not any(len(part.ids) for part in decoder.parts):
        raise DatasetError(path, "the file has no rows" if not problems.total else "no good row is left")
    return decoder.finish()


def _told(mapping: Mapping[str, str], table: TableMapping) -> TableMapping:
    mapping = {name: source for name, source in mapping.items() if name not in table.told}
    table = combined(table, mapping, {})
    if "item_id" in mapping:
        # It is mostly meant for the events; the catalogue may have an item_id of its own.
        table = table.falling_back("item_id", ("item_id",))
    return table


def catalog_wanted(mapping: Mapping[str, str], table: TableMapping) -> Wanted:
    """What `read_catalog` looks for in a file; of `mapping` only what a catalogue has."""
    of_catalog = {name: source for name, source in mapping.items() if name in CATALOG_COLUMNS}
    return _told(of_catalog, table).wanted(CATALOG_COLUMNS, ("item_id",))


@dataclass(frozen=True)
class _Part:
    """Good rows of a batch. `price_text` None: the column has numbers, those in `price`."""

    checks: RowChecks
    ids: list[str]
    text: Mapping[str, Any]
    lists: Mapping[str, Any]
    price: npt.NDArray[np.float64]
    price_text: Any
    available: npt.NDArray[np.bool_]
    attributes: list[dict[str, str]] | None
    groups: Any


class CatalogDecoder:
    """Reads every value of a batch and checks its rows; prices in text are read once the whole column was seen."""

    def __init__(self, table: TableMapping, problems: BadRows, notes: Notes):
        self._table, self._problems, self._notes = table, problems, notes
        self._paths = CategoryPaths(table.read.paths, table.read.steps)
        self._rules = table.rules()
        self._repeats = table.read.repeats
        self._seen: set[str] = set()
        self.wanted = table.wanted(CATALOG_COLUMNS, ("item_id",))
        self.parts: list[_Part] = []

    def add(self, raw: MappedBatch) -> None:
        checks = RowChecks(raw.path, raw.rows, raw.sources)
        leave_out(self._rules, raw, checks, self._notes, self._table.read.decimal)
        self._leave_out(raw, checks)
        if self._table.read.without_id == "ignore":
            _, missing, _ = columns.as_ids(raw.columns["item_id"], self._table.placeholders())
            self._notes.rows_without_item += checks.drop(missing)
        ids = _ids(raw, checks, None if self._repeats != "refuse" else self._seen, self._table.placeholders())
        text = {name: _text(raw, checks, name) for name in TEXT_COLUMNS}
        lists = {name: self._list(raw, checks, name) for name in LIST_COLUMNS}
        price, price_text = self._price(raw, checks)
        available = np.ones(len(raw.rows), bool)
        if "available" in raw.columns:
            available, bad = columns.as_boolean(raw.columns["available"], missing=True)
            unreadable = "neither true nor false, nor a word for in stock or out of it"
            available |= checks.left_out(self._notes, "available", unreadable, bad, raw.columns["available"])
        attributes = self._attributes(raw, checks) if "attributes" in raw.columns else None
        groups = self._groups(raw, checks) if "group_id" in raw.columns else None
        good = checks.settle(self._problems)
        keep = pa.array(good)
        self.parts.append(
            _Part(
                checks=checks.of_good(),
                ids=[item_id for item_id, fine in zip(ids, good.tolist(), strict=True) if fine],
                text={name: column.filter(keep) for name, column in text.items()},
                lists={name: column.filter(keep) for name, column in lists.items()},
                price=price[good],
                price_text=None if price_text is None else price_text.filter(keep),
                available=available[good],
                attributes=None if attributes is None else [attributes[row] for row in np.flatnonzero(good)],
                groups=None if groups is None else groups.filter(keep),
            )
        )

    def _leave_out(self, raw: MappedBatch, checks: RowChecks) -> None:
        """Rows without any value are no rows."""
        blank = np.ones(len(raw.rows), bool)
        for column in raw.columns.values():
            if not blank.any():
                return
            text, bad = columns.as_text(column)
            blank &= columns.to_numpy(pc.fill_null(pc.equal(pc.utf8_trim_whitespace(text), ""), True)) & ~bad
        self._notes.rows_blank += checks.drop(blank)

    def _price(self, raw: MappedBatch, checks: RowChecks) -> tuple[npt.NDArray[np.float64], Any]:
        nothing = np.full(len(raw.rows), np.nan)
        if "price" not in raw.columns:
            return nothing, None
        column = raw.columns["price"]
        if not columns.is_number(column.type):
            text, bad = columns.as_text(column)
            checks.left_out(self._notes, "price", "not a price", bad, column)
            return nothing, pc.fill_null(text, "")
        price, bad = columns.as_number(column)
        bad = checks.left_out(self._notes, "price", "not a finite number", bad, column)
        bad = bad | checks.left_out(self._notes, "price", "negative", price < 0, column)
        return np.where(bad, np.nan, price), None

    def _list(self, raw: MappedBatch, checks: RowChecks, name: str) -> Any:
        column = raw.columns.get(name)
        if column is None:
            return pa.array([[]], _LIST).take(pa.array(np.zeros(len(raw.rows), np.int32)))
        parse = self._paths.of_list if name == "categories" else _names
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            return pa.array([parse(value or ()) for value in column.to_pylist()], _LIST)
        text, bad = columns.as_text(column)
        encoded = pc.fill_null(text, "").dictionary_encode()
        parse_text = self._paths.of_text if name == "categories" else _tags
        parsed = [_parse_list(value, parse, parse_text) for value in encoded.dictionary.to_pylist()]
        broken = np.array([value is None for value in parsed], bool)[columns.to_numpy(encoded.indices)]
        checks.left_out(self._notes, name, "not a list of names", bad | broken, column)
        return pa.array([value or [] for value in parsed], _LIST).take(encoded.indices)

    def _attributes(self, raw: MappedBatch, checks: RowChecks) -> list[dict[str, str]]:
        column = raw.columns["attributes"]
        parsed: list[dict[str, str] | None] = [_parse_attributes(value) for value in column.to_pylist()]
        bad = np.array([value is None for value in parsed], bool)
        checks.left_out(self._notes, "attributes", "not an object", bad, column)
        return [value or {} for value in parsed]

    def _groups(self, raw: MappedBatch, checks: RowChecks) -> Any:
        """Ids of groups; "" where there is none."""
        column = raw.columns["group_id"]
        encoded, _, bad = columns.as_ids(column, self._table.placeholders())
        checks.left_out(self._notes, "group_id", "not an id", bad, column)
        groups = pc.if_else(pa.array(bad), "", encoded.dictionary_decode())
        prefix = self._table.read.group_prefix
        return pc.replace_substring_regex(groups, f"^{re.escape(prefix)}", "") if prefix else groups

    def finish(self) -> Catalog:
        parts = self.parts
        price, currency = self._prices()
        attributes = None
        if any(part.attributes is not None for part in parts):
            attributes = [row for part in parts for row in (part.attributes or [{}] * len(part.ids))]
        groups = None
        if any(part.groups is not None for part in parts):
            groups = [
                row
                for part in parts
                for row in ([""] * len(part.ids) if part.groups is None else part.groups.to_pylist())
            ]
        text = {name: pa.concat_arrays([part.text[name] for part in parts]) for name in TEXT_COLUMNS}
        if currency is not None:
            said = text["currency_code"]
            text["currency_code"] = pc.if_else(pc.equal(said, ""), currency, said)
        catalog = Catalog(
            ids=[item_id for part in parts for item_id in part.ids],
            text=text,
            lists={name: pa.concat_arrays([part.lists[name] for part in parts]) for name in LIST_COLUMNS},
            price=np.nan_to_num(price),
            available=np.concatenate([part.available for part in parts]),
            attributes=attributes,
            groups=groups,
        )
        return catalog if self._repeats == "refuse" else one_row_a_product(catalog, self._repeats)

    def _prices(self) -> tuple[npt.NDArray[np.float64], Any]:
        """Of all parts, and the currencies that stood beside them: None where no price was text."""
        price = np.concatenate([part.price for part in self.parts])
        written = [part for part in self.parts if part.price_text is not None]
        if not written:
            return price, None
        values: dict[str, None] = dict.fromkeys(
            text for part in written for text in part.price_text.unique().to_pylist()
        )
        found, decimal = amounts(values, self._table.read.decimal)
        by_text = dict(zip(values, found, strict=True))
        if any("," in text for text in values):
            sign = {",": "a comma", ".": "a point", "": "a comma in some and a point in others"}[decimal]
            self._notes.remarks[f"prices were read with {sign} before the decimals (--decimal says another)"] = None
        currency: list[str] = []
        begin = 0
        for part in self.parts:
            end = begin + len(part.ids)
            each = [Amount(0.0)] * len(part.ids)
            if part.price_text is not None:
                each = [by_text[text] for text in part.price_text.to_pylist()]
                numbers = np.array([one.value for one in each], np.float64)
                bad = np.array([one.bad for one in each], bool)
                part.checks.left_out(self._notes, "price", "not a price", bad, part.price_text)
                part.checks.left_out(self._notes, "price", "negative", numbers < 0, part.price_text)
                price[begin:end] = np.where(numbers < 0, np.nan, numbers)
            currency += [one.currency for one in each]
            begin = end
        return price, pa.array(currency, pa.string())


def one_row_a_product(catalog: Catalog, repeats: Repeats) -> Catalog:
    """Of the rows with the same id: the first, the last, or the last with the commonest title of the id."""
    chosen: dict[str, int] = {}
    if repeats == "commonest":
        titles = catalog.text["title"].to_pylist()
        counts = Counter(zip(catalog.ids, titles, strict=True))
        for row, (item_id, title) in enumerate(zip(catalog.ids, titles, strict=True)):
            best = chosen.get(item_id)
            # An empty title loses to any other.
            if best is None or (title != "", counts[item_id, title]) >= (
                titles[best] != "",
                counts[item_id, titles[best]],
            ):
                chosen[item_id] = row
    else:
        for row, item_id in enumerate(catalog.ids):
            if repeats == "last" or item_id not in chosen:
                chosen[item_id] = row
    return catalog.rows(np.fromiter(chosen.values(), np.int64, len(chosen)))


def _ids(raw: MappedBatch, checks: RowChecks, seen: set[str] | None, placeholders: Collection[str]) -> list[str]:
    """`seen`: ids of earlier rows, which must not be repeated; None: they may be."""
    column = raw.columns["item_id"]
    encoded, missing, bad = columns.as_ids(column, placeholders)
    structured = bad if columns.is_structured(column.type) else raw.structured.get("item_id")
    if structured is not None:
        checks.bad("item_id", "a list, not an id", structured, column)
    checks.bad("item_id", "not an id", bad, column)
    checks.bad("item_id", "empty", missing)
    ids: list[str] = encoded.to_pylist()
    if seen is None:
        return ids
    again = np.zeros(len(ids), bool)
    for row, item_id in enumerate(ids):
        if item_id in seen:
            again[row] = True
        elif checks.good[row]:
            seen.add(item_id)
    checks.bad("item_id", _AGAIN, again, column)
    return ids


def _text(raw: MappedBatch, checks: RowChecks, name: str) -> Any:
    if name not in raw.columns:
        return pa.nulls(len(raw.rows), pa.string()).fill_null("")
    text, bad = columns.as_text(raw.columns[name])
    if not columns.is_structured(raw.columns[name].type):
        checks.bad(name, f"not UTF-8 text{ENCODING_HINT}", bad)
    return pc.utf8_trim_whitespace(pc.fill_null(text, ""))


def _parse_list(text: str, of_list: Parse, of_text: Callable[[str], list[str]]) -> list[str] | None:
    """None: begins like a JSON array and is none."""
    if not text.lstrip().startswith("["):
        return of_text(text)
    try:
        return of_list(msgspec.json.decode(text, type=list[str]))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _tags(text: str) -> list[str]:
    return _names(_SEPARATOR.split(text))


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
