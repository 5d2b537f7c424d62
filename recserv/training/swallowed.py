"""Finds values of a delimited text that have swallowed rows: a mark opens at one title and closes at another.

`"Slim shelf` here and `Shelf of 24"` two hundred rows below are, by the rules of quotation marks, one value of two
hundred lines. A description may have lines too, so a value is suspected for what its lines are: each of them, taken
alone, has as many separators as a row, and what stands in the columns of codes, numbers and fixed words is one
(`RowShape`, learned from the first rows).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_NUMBER = re.compile(r"[+-]?[0-9][0-9.,]*")
_CODE = re.compile(r"\S*[0-9]\S*")
_DIGITS, _LETTERS = re.compile(r"[0-9]+"), re.compile(r"[^\W\d_]+")
_WORDS_MAX = 20
_ROWS_FOR_WORDS = 2 * _WORDS_MAX
_MATCHES_MIN = 2
"""One value that could be a code, at the beginning of a line, also stands in sentences."""


@dataclass(frozen=True)
class RowShape:
    """`width`: values of a row. `numbers`: columns in which every value is one; `codes`: those of values without blanks
    and with digits, by how these are put together (`sku-17` as `a-0`); `words`: the few values that a column has;
    `filled`: columns without an empty value; `blanks`: whether values begin with a blank, as what follows a comma in a
    sentence does.
    """

    separator: str
    width: int
    numbers: frozenset[int]
    codes: dict[int, frozenset[str]]
    words: dict[int, frozenset[str]]
    filled: frozenset[int]
    blanks: bool

    @classmethod
    def of(cls, separator: str, rows: Sequence[Sequence[str]], width: int) -> RowShape:
        """The shape of the first rows of a text; rows with another number of values are skipped."""
        columns = list(zip(*(row for row in rows if len(row) == width), strict=True)) or [()] * width
        values = {at: [value for value in column if value] for at, column in enumerate(columns)}
        numbers = frozenset(at for at, some in values.items() if some and all(map(_NUMBER.fullmatch, some)))
        codes = {
            at: frozenset(map(_put_together, some))
            for at, some in values.items()
            if some and at not in numbers and all(map(_CODE.fullmatch, some))
        }
        words = {
            at: frozenset(some)
            for at, some in values.items()
            if len(some) >= _ROWS_FOR_WORDS and len(set(some)) <= _WORDS_MAX
        }
        filled = frozenset(at for at, some in values.items() if some and len(some) == len(columns[at]))
        blanks = any(value[:1] == " " for some in values.values() for value in some)
        few = {at: kinds for at, kinds in codes.items() if len(kinds) <= _WORDS_MAX}
        return cls(separator, width, numbers, few, words, filled, blanks)

    def swallowed(self, record: str) -> bool | None:
        """Whether a value of a record of several lines has swallowed rows; None: it may have, but there is too little
        to tell by.
        """
        record = record.replace("\r\n", "\n").removesuffix("\r")
        if record.count(self.separator) < (record.count("\n") + 1) * (self.width - 1):
            return False
        values = list(_values(record, self.separator))
        # Counted from behind: where the mark that closes it stood in a row of its own.
        shift = self.width - len(values)
        verdicts = [
            self._lines_are_rows(value.split("\n"), at, at + shift) for at, value in enumerate(values) if "\n" in value
        ]
        return True if True in verdicts else None if None in verdicts else False

    def _lines_are_rows(self, lines: list[str], column: int, last_column: int) -> bool | None:
        matches = 0
        for at, line in enumerate(lines):
            first, last = at == 0, at == len(lines) - 1
            values = line.split(self.separator)
            if len(values) != (self.width - column if first else last_column + 1 if last else self.width):
                return False
            # What belongs to the value itself, at both ends, says nothing.
            for place, value in enumerate(values[first : len(values) - last], column + 1 if first else 0):
                fits = self._fits(place, value)
                if fits is False:
                    return False
                matches += fits is True
        if matches >= _MATCHES_MIN:
            return True
        return None if matches or self.width > 2 else False

    def _fits(self, column: int, value: str) -> bool | None:
        """None: anything would."""
        if not value:
            return False if column in self.filled else None
        if value[0] == " " and not self.blanks:
            return False
        if column in self.numbers:
            return _NUMBER.fullmatch(value) is not None
        if column in self.words:
            return value in self.words[column]
        return _put_together(value) in self.codes[column] if column in self.codes else None


def _put_together(value: str) -> str:
    return _DIGITS.sub("0", _LETTERS.sub("a", value))


def _values(record: str, separator: str) -> Iterator[str]:
    """Of a record whose quotation marks are as they must be; of any length, other than with the standard library."""
    sign = re.escape(separator)
    value = re.compile(rf'"([^"]*(?:""[^"]*)*)"(?={sign}|$)|([^{sign}]*)')
    at = 0
    while at <= len(record):
        found = value.match(record, at)
        assert found is not None
        yield found[1] if found[1] is not None else found[2]
        at = found.end() + 1
