"""Whether the quotation marks of a delimited text are those of RFC 4180.

A quoted value begins with its quotation mark and ends with one that a separator or a line end follows; `""` inside is
one mark. Parsers forgive what differs and swallow rows doing so: a title `"Slim shelf` without a second mark takes
every row up to the next mark with it. So the text is looked at while it passes, and what differs is refused with the
row.

A mark inside of a value that did not begin with one (`24" monitor`) is an ordinary character.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

OPEN_BYTES_MAX = 4 << 20
"""A value that is longer has a mark that never closes."""
_QUOTE = 34


class BrokenQuotes(Exception):
    """`row`: where the mark opens, from 1, as counted from where the check began; blank lines are no rows."""

    def __init__(self, row: int, problem: str):
        self.row, self.problem = row, problem
        super().__init__(problem)


class QuoteCheck:
    """Takes the text piece by piece. With `numbered` it counts rows, which takes longer: for the second look."""

    def __init__(self, separator: str, numbered: bool = False):
        self._boundary = np.zeros(256, bool)
        self._boundary[[ord(separator), 10, 13]] = True
        # Beside a mark in its place: one of these, or the other half of a pair.
        self._beside = self._boundary.copy()
        self._beside[_QUOTE] = True
        self._numbered = numbered
        self._inside = False
        self._last = 10
        self._held = b""
        self._rows = 0
        self._opened_row = 0
        self._open_bytes = 0

    def feed(self, piece: bytes) -> None:
        """Raises BrokenQuotes."""
        if not self._held and not self._numbered and b'"' not in piece:
            self._open_bytes += len(piece) if self._inside else 0
            self._last = piece[-1] if piece else self._last
        else:
            # What follows a mark must be known, so those at the end wait for the next piece.
            data = self._held + piece
            kept = len(data.rstrip(b'"'))
            self._held = data[kept:]
            self._look(data[:kept], data[kept : kept + 1])
        if self._inside and self._open_bytes > OPEN_BYTES_MAX:
            raise BrokenQuotes(self._opened_row, "a quotation mark opens here and is not closed")

    def finish(self) -> None:
        """Raises BrokenQuotes."""
        self._look(self._held, b"\n")
        self._held = b""
        if self._inside:
            raise BrokenQuotes(self._opened_row, "a quotation mark opens here and is not closed")

    def _look(self, data: bytes, following: bytes) -> None:
        if not data:
            return
        codes = np.frombuffer(bytes([self._last]) + data + (following or b"\n"), np.uint8)
        marks = np.flatnonzero(codes[1:-1] == _QUOTE) + 1
        if self._numbered or not self._proper(codes, marks):
            self._walk(codes, marks)
        else:
            last = int(marks[-1]) if len(marks) else 0
            self._inside ^= bool(len(marks) % 2)
            if self._inside:
                self._open_bytes = len(data) - last if len(marks) else self._open_bytes + len(data)
        self._last = data[-1]

    def _proper(self, codes: npt.NDArray[np.uint8], marks: npt.NDArray[np.int64]) -> bool:
        """Whether the marks, taken in turns as opening and closing, all stand where they may."""
        first = int(self._inside)
        opening, closing = marks[first::2], marks[1 - first :: 2]
        if len(opening) and not self._inside and codes[opening[0] - 1] == _QUOTE:
            return False  # A value may not begin with its second mark: `x""` is text.
        return bool(self._beside[codes[opening - 1]].all()) and bool(self._beside[codes[closing + 1]].all())

    def _walk(self, codes: npt.NDArray[np.uint8], marks: npt.NDArray[np.int64]) -> None:
        """One mark after the other; slower, and exact."""
        at, counted = 0, 1
        places = marks.tolist()
        while at < len(places):
            place = places[at]
            at += 1
            if not self._inside:
                if self._boundary[codes[place - 1]]:
                    self._count(codes[counted:place], codes[counted - 1])
                    counted, self._inside, self._opened_row = place, True, self._rows + 1
            elif at < len(places) and places[at] == place + 1:
                at += 1
            elif self._boundary[codes[place + 1]] or codes[place + 1] == _QUOTE:
                self._inside = False
                counted = place + 1
            else:
                raise BrokenQuotes(self._opened_row, "a quotation mark opens here and closes in the middle of a value")
        if self._inside:
            self._open_bytes = len(codes) - counted if places else self._open_bytes + len(codes)
        else:
            self._count(codes[counted:-1], codes[counted - 1])

    def _count(self, codes: npt.NDArray[np.uint8], before: np.uint8) -> None:
        if self._numbered and len(codes):
            ends = codes == 10
            blank = np.concatenate(([before == 10], ends[:-1]))
            self._rows += int(np.count_nonzero(ends & ~blank))
