"""Which built-in mapping fits a file, by the names of its columns."""

from __future__ import annotations

from recserv.errors import DatasetError, UsageError
from recserv.training.catalog import CATALOG_COLUMNS
from recserv.training.dataset import EVENT_COLUMNS
from recserv.training.mapped import FileColumns, MissingColumn
from recserv.training.mapping_tables import Part, TableMapping, built_in, load

_NAMES: dict[Part, tuple[str, ...]] = {"events": EVENT_COLUMNS, "catalog": CATALOG_COLUMNS}
_DESCRIBED_MIN = 2
"""Columns that a catalogue's mapping must find: an id alone says little."""

_WORDS = {
    "event_type": ("type", "event", "action", "behavio"),
    "session_id": ("session", "visit", "basket", "invoice", "order", "cart", "user", "customer"),
    "item_id": ("item", "product", "sku", "article", "stock", "asin", "handle"),
}
"""In what a file may call a column that it must have."""


def load_mapping(name: str, part: Part) -> TableMapping:
    """Raises UsageError."""
    return load(name, part, _NAMES[part])


def fitting(path: str, names: list[str], part: Part) -> list[str]:
    """Built-in mappings by which the file has what it must have under names of its own, the best first. A file with our
    own names fits none.
    """
    own = {name.casefold() for name in names}
    found = []
    for mapping_name in built_in():
        try:
            mapping = load_mapping(mapping_name, part)
        except UsageError:
            continue  # A mapping for the other kind of file.
        columns, score = _found(path, mapping, names, part)
        foreign = [name for name, source in columns.items() if source.casefold() != name]
        if score and foreign and not {"item_id", *(["session_id"] if part == "events" else [])} <= own:
            found.append((score, mapping_name))
    return [name for _, name in sorted(found, key=lambda entry: (-entry[0], entry[1]))]


def _found(path: str, mapping: TableMapping, names: list[str], part: Part) -> tuple[dict[str, str], int]:
    """Which columns the mapping finds, and a score for them: 0 if a required one is missing."""
    required: tuple[str, ...] = ("item_id",)
    if part == "events":
        required = ("session_id", "item_id", *(() if mapping.read.default_event_type else ("event_type",)))
    file = FileColumns(path, mapping.wanted(_NAMES[part], required))
    try:
        file.choose(names)
    except DatasetError:
        return {}, 0
    sources = file.sources()
    return sources, len(sources) if part == "events" or len(sources) > _DESCRIBED_MIN else 0


def hint(missing: MissingColumn, part: Part, in_use: str = "") -> str:
    """What to add to the complaint that a column is missing. `in_use`: the mapping that it was looked for with."""
    path, names = missing.path, missing.has
    option = "--mapping" if part == "events" else "--catalog-mapping"
    other: Part = "catalog" if part == "events" else "events"
    if fit := [name for name in fitting(path, names, part) if name != in_use]:
        return f"; {option} {fit[0]} fits"
    if fitting(path, names, other):
        return f"; it looks like {'a catalogue' if part == 'events' else 'events'}"
    flag = "--column" if part == "events" else "--catalog-column"
    likely = _likely(missing.ours, names)
    told = f"; {flag} {missing.ours}={likely or 'NAME'} says which of them it is" if missing.ours in _WORDS else ""
    if missing.ours == "event_type":
        told += ", --default-event-type purchase (or view) what every row is"
    return f"{told}; recserv inspect {path} shows what is in it"


def _likely(ours: str, names: list[str]) -> str:
    """A name that may well stand for it, "" for none or for several."""
    found = [name for name in names if any(word in name.casefold() for word in _WORDS.get(ours, ()))]
    return found[0] if len(found) == 1 else ""
