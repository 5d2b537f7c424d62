"""Values of a delimited text that have swallowed rows: a mark opens at one title and closes properly at another.

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
_WORDS_MAX = 20
_ROWS_FOR_WORDS = 2 * _WORDS_MAX
_MATCHES_MIN = 1


@dataclass(frozen=True)
class RowShape:
    """`width`: values of a row. `codes`, `numbers`: columns in which every value is one; `words`: the few values that a
    column has; `blanks`: whether values begin with a blank, as what follows a comma in a sentence does.
    """

    separator: str
    width: int
    numbers: frozenset[int]
    codes: frozenset[int]
    words: dict[int, frozenset[str]]
    blanks: bool

    @classmethod
    def of(cls, separator: str, rows: Sequence[Sequence[str]], width: int) -> RowShape:
        """Of the first rows of a text; those with another number of values are passed over."""
        columns = list(zip(*(row for row in rows if len(row) == width), strict=True)) or [()] * width
        filled = [[value for value in column if value] for column in columns]
        matching = [
            frozenset(at for at, values in enumerate(filled) if values and all(map(pattern.fullmatch, values)))
            for pattern in (_NUMBER, _CODE)
        ]
        words = {
            at: frozenset(values)
            for at, values in enumerate(filled)
            if len(values) >= _ROWS_FOR_WORDS and len(set(values)) <= _WORDS_MAX
        }
        blanks = any(value[:1] == " " for values in filled for value in values)
        return cls(separator, width, matching[0], matching[1], words, blanks)

    def swallowed(self, record: str) -> bool | None:
        """Whether a value of a record of several lines has swallowed rows; None: it may have, but there is nothing to
        tell by.
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
        return True if matches >= _MATCHES_MIN else None

    def _fits(self, column: int, value: str) -> bool | None:
        """None: anything would."""
        if not value:
            return None
        if value[0] == " " and not self.blanks:
            return False
        if column in self.numbers:
            return _NUMBER.fullmatch(value) is not None
        if column in self.words:
            return value in self.words[column]
        return _CODE.fullmatch(value) is not None if column in self.codes else None


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
