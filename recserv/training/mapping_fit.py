"""Which built-in mapping fits a file, by the names of its columns."""

from __future__ import annotations

from recserv.errors import DatasetError, UsageError
from recserv.training.catalog import CATALOG_COLUMNS
from recserv.training.dataset import EVENT_COLUMNS
from recserv.training.mapped import FileColumns
from recserv.training.mapping_tables import Part, TableMapping, built_in, load

_NAMES: dict[Part, tuple[str, ...]] = {"events": EVENT_COLUMNS, "catalog": CATALOG_COLUMNS}
_DESCRIBED_MIN = 2
"""Columns that a catalogue's mapping must find: an id alone says little."""


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
            continue  # It is for the other part.
        columns, score = _found(path, mapping, names, part)
        foreign = [name for name, source in columns.items() if source.casefold() != name]
        if score and foreign and not {"item_id", *(["session_id"] if part == "events" else [])} <= own:
            found.append((score, mapping_name))
    return [name for _, name in sorted(found, key=lambda entry: (-entry[0], entry[1]))]


def _found(path: str, mapping: TableMapping, names: list[str], part: Part) -> tuple[dict[str, str], int]:
    """What the mapping finds, and for how much that counts: 0 if something that must be there is not."""
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


def hint(path: str, names: list[str], part: Part, in_use: str = "") -> str:
    """What to add to the complaint that a column is missing. `in_use`: the mapping that it was looked for with."""
    option = "--mapping" if part == "events" else "--catalog-mapping"
    other: Part = "catalog" if part == "events" else "events"
    if fit := [name for name in fitting(path, names, part) if name != in_use]:
        return f"; {option} {fit[0]} fits"
    if fitting(path, names, other):
        return f"; it looks like {'a catalogue' if part == 'events' else 'events'}"
    return "; `recserv inspect` shows what is in it, --column says what stands for what"
