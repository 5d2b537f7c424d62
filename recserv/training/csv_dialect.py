"""How a delimited file is written: its separator, its header, whether quotation marks mean something.

    the first 256 KiB as UTF-8 -> for each separator the rows it would make -> the one that all lines agree on
    -> Dialect

Everything can be told instead (`ReadAs`). A header is read by the standard library's parser: its cells may hold line
breaks, separators and quotation marks, may be empty and may repeat.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from dataclasses import dataclass

import msgspec

from recserv.errors import DatasetError
from recserv.training.quotes import BrokenQuotes, QuoteCheck

SEPARATORS = (",", "\t", ";", "|")
HEADER_BYTES_MAX = 64 << 10
COLUMNS_MAX = 5_000
QUOTES_HINT = "; --quotes off takes such marks as text, --quotes on means them"
_ROWS_LOOKED_AT = 200
_AGREEMENT_MIN = 0.5


class ReadAs(msgspec.Struct, frozen=True, kw_only=True):
    """What was told of a file rather than read: empty or None, find out. `names`: of the columns of a file that has no
    header.
    """

    delimiter: str = ""
    encoding: str = ""
    quotes: bool | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dialect:
    """`names` one a column, without the header's blanks around them, "" where the header has none; `header_bytes`: how
    many bytes of the text the header takes, 0 without one.
    """

    names: list[str]
    delimiter: str
    quotes: bool
    header_bytes: int


def find_dialect(path: str, head: bytes, whole: bool, told: ReadAs, known: Collection[str]) -> Dialect:
    """`head`: the beginning of the file, `whole`: all of it. `known`: names of columns, in lower case, that decide
    between separators that fit alike. Raises DatasetError.
    """
    try:
        text = head.decode("utf-8", "strict" if whole else "replace")
    except UnicodeDecodeError:
        text = head.decode("utf-8", "replace")
    told_by_file, text, skipped = _told_by_file(text)
    separators = [told.delimiter or told_by_file] if told.delimiter or told_by_file else list(SEPARATORS)
    if told.delimiter and told.delimiter not in text.lstrip().partition("\n")[0]:
        separators = list(SEPARATORS)  # Said of another of the files.
    quotes = told.quotes is not False
    best: tuple[tuple[float, ...], str, _Rows] | None = None
    for separator in separators:
        rows = _rows(path, text, separator, quotes, whole)
        if rows is not None:
            score = rows.score({name.lower() for name in known})
            if best is None or score > best[0]:
                best = (score, separator, rows)
    if best is None:
        raise DatasetError(path, f"the first line is too long to be a header (more than {HEADER_BYTES_MAX} bytes)")
    _, separator, rows = best
    if told.quotes is None and b'"' in head:
        broken, row = _broken(text if whole else text[: text.rfind("\n") + 1], whole, separator)
        if broken and separator == "\t":
            # Tabs are seldom inside of values, so such files are mostly written without quotation marks of their own.
            quotes = False
            rows = _rows(path, text, separator, quotes, whole) or rows
        elif row:
            raise DatasetError(path, f"a quotation mark opens here and takes whole rows with it{QUOTES_HINT}", row=row)
    names = [name.strip() for name in rows.header]
    if "\ufffd" in text[: rows.header_size]:
        raise DatasetError(path, "the header is not UTF-8; --encoding says what it is")
    header_bytes = skipped + len(text[: rows.header_size].encode())
    if told.names and not {name.lower() for name in names} & {name.lower() for name in told.names}:
        names, header_bytes = list(told.names), skipped
        rows.widths.insert(0, len(rows.header))
    return Dialect(_fitted(names, rows.widths), separator, quotes, header_bytes)


@dataclass
class _Rows:
    header: list[str]
    header_size: int
    widths: list[int]

    def score(self, known: set[str]) -> tuple[float, ...]:
        """Larger is better: the rows agree with the header, it names what is looked for, it has many columns."""
        named = sum(name.strip().lower() in known for name in self.header)
        width = len(self.header)
        agreeing = sum(each == width for each in self.widths) / len(self.widths) if self.widths else 1.0
        return (float(width > 1 and agreeing > _AGREEMENT_MIN), float(named), round(agreeing, 1), float(width))


def _rows(path: str, text: str, separator: str, quotes: bool, whole: bool) -> _Rows | None:
    """None: no header of a sane size."""
    lines = _CountedLines(text)
    reader = csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE)
    header: list[str] = []
    widths = []
    try:
        for row in reader:
            if not row:
                continue
            if not header:
                header, header_size = row, lines.taken
                if header_size > HEADER_BYTES_MAX or len(header) > COLUMNS_MAX:
                    return None
            else:
                widths.append(len(row))
            if len(widths) > _ROWS_LOOKED_AT:
                break
        else:
            if not whole and widths:
                widths.pop()  # Cut off.
    except csv.Error:
        if not header:
            return None
    if not header:
        raise DatasetError(path, "the file has no header")
    return _Rows(header, header_size, widths)


class _CountedLines:
    """Lines, and how many characters of them a parser has taken."""

    def __init__(self, text: str):
        self._lines = io.StringIO(text, newline="")
        self.taken = 0

    def __iter__(self) -> _CountedLines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.taken += len(line)
        return line


def _told_by_file(text: str) -> tuple[str, str, int]:
    """A first line `sep=;`, as spreadsheets write it: the separator, the text behind it, its size in bytes."""
    line = text[:8].splitlines()[0] if text else ""
    if len(line) == len("sep=;") and line.lower().startswith("sep="):
        rest = text[len(line) :].lstrip("\r\n")
        return line[-1], rest, len(text) - len(rest)
    return "", text, 0


def _fitted(names: list[str], widths: list[int]) -> list[str]:
    """As many names as the rows have values: exports end the header, or every row, with separators of no column."""
    width = max(set(widths), key=widths.count) if widths else len(names)
    if width > len(names):
        return names + [""] * (width - len(names)) if widths.count(width) == len(widths) else names
    return names[:width] if not any(names[width:]) else names


def _broken(text: str, whole: bool, separator: str) -> tuple[bool, int]:
    """Whether quotation marks are used in another way than RFC 4180 has it, and the row where one of them takes whole
    rows with it, 0 for none.
    """
    row = _swallowing_row(text, separator)
    check = QuoteCheck(separator)
    try:
        check.feed(text.encode())
        if whole:
            check.finish()
    except BrokenQuotes:
        return True, 0  # Refused when the row is read, or read without marks.
    return row > 0, row


def _swallowing_row(text: str, separator: str) -> int:
    """The first row with a value over several lines that each look like a row, if most such values are like that."""
    lines = _CountedLines(text)
    width = before = first = swallowing = spanning = 0
    try:
        for number, row in enumerate(csv.reader(lines, delimiter=separator)):
            width = width or len(row)
            taken = text[before : lines.taken].rstrip("\r\n").split("\n")
            before = lines.taken
            if number and len(taken) > 1:
                spanning += 1
                if width > 2 and all(line.count(separator) == width - 1 for line in taken):
                    swallowing += 1
                    first = first or number
    except csv.Error:
        return first
    return first if 2 * swallowing > spanning else 0
