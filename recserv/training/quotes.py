"""Whether the quotation marks of a delimited text are those of RFC 4180.

A quoted value begins with its quotation mark and ends with one that a separator or a line end follows; `""` inside is
one mark. Parsers tolerate deviations and swallow rows doing so: a title `"Slim shelf` without a second mark takes
every row up to the next mark with it. So the text is looked at while it passes, and what differs is refused with the
row; so is a value that begins and ends as it must and has rows in it all the same (`swallowed`):
that is looked for where a text was found to have more lines than rows.

A mark inside of a value that did not begin with one (`24" monitor`) is an ordinary character.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recserv.training.swallowed import RowShape

OPEN_BYTES_MAX = 4 << 20
"""A longer value counts as a quotation mark that never closes."""
SWALLOWS = "a quotation mark opens here and swallows whole rows"
_QUOTE = 34
_LINE_END = 10

Places = npt.NDArray[np.int64]


class BrokenQuotes(Exception):
    """`row`: where the mark opens, from 1, as counted from where the check began; blank lines are no rows."""

    def __init__(self, row: int, problem: str):
        self.row, self.problem = row, problem
        super().__init__(problem)


class QuoteCheck:
    """Takes the text piece by piece. `shape`: how a row looks; None: values of several lines may be what they like.
    With `numbered` it counts rows, which takes longer: for a look at what was refused.
    """

    def __init__(self, separator: str, numbered: bool = False, shape: RowShape | None = None):
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
        self._records = None if shape is None else _Records(shape)

    def feed(self, piece: bytes) -> None:
        """Raises BrokenQuotes."""
        if not self._held and not self._numbered and b'"' not in piece:
            self._open_bytes += len(piece) if self._inside else 0
            self._last = piece[-1] if piece else self._last
            if self._records is not None:
                self._records.pass_over(piece, self._inside)
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
        if self._records is not None:
            self._records.finish()

    def _look(self, data: bytes, following: bytes) -> None:
        if not data:
            return
        codes = np.frombuffer(bytes([self._last]) + data + (following or b"\n"), np.uint8)
        marks = np.flatnonzero(codes[1:-1] == _QUOTE) + 1
        inside = self._inside
        if self._numbered or not self._proper(codes, marks):
            opening, closing = self._walk(codes, marks)
        else:
            opening, closing = marks[int(inside) :: 2], marks[1 - int(inside) :: 2]
            last = int(marks[-1]) if len(marks) else 0
            self._inside ^= bool(len(marks) % 2)
            if self._inside:
                self._open_bytes = len(data) - last if len(marks) else self._open_bytes + len(data)
        self._last = data[-1]
        if self._records is not None:
            self._records.look(data, codes[1 : len(data) + 1], inside, opening - 1, closing - 1)

    def _proper(self, codes: npt.NDArray[np.uint8], marks: Places) -> bool:
        """Whether the marks, taken in turns as opening and closing, all stand where they may."""
        first = int(self._inside)
        opening, closing = marks[first::2], marks[1 - first :: 2]
        if len(opening) and not self._inside and codes[opening[0] - 1] == _QUOTE:
            return False  # A value may not begin with its second mark: `x""` is text.
        return bool(self._beside[codes[opening - 1]].all()) and bool(self._beside[codes[closing + 1]].all())

    def _walk(self, codes: npt.NDArray[np.uint8], marks: Places) -> tuple[Places, Places]:
        """Goes mark by mark: slower, but exact. Returns where values open and close."""
        at, counted = 0, 1
        opening, closing = [], []
        places = marks.tolist()
        while at < len(places):
            place = places[at]
            at += 1
            if not self._inside:
                if self._boundary[codes[place - 1]]:
                    self._count(codes[counted:place], codes[counted - 1])
                    counted, self._inside, self._opened_row = place, True, self._rows + 1
                    opening.append(place)
            elif at < len(places) and places[at] == place + 1:
                at += 1
            elif self._boundary[codes[place + 1]] or codes[place + 1] == _QUOTE:
                self._inside = False
                counted = place + 1
                closing.append(place)
            else:
                raise BrokenQuotes(self._opened_row, "a quotation mark opens here and closes in the middle of a value")
        if self._inside:
            self._open_bytes = len(codes) - counted if places else self._open_bytes + len(codes)
        else:
            self._count(codes[counted:-1], codes[counted - 1])
        return np.array(opening, np.int64), np.array(closing, np.int64)

    def _count(self, codes: npt.NDArray[np.uint8], before: np.uint8) -> None:
        if self._numbered and len(codes):
            ends = codes == 10
            blank = np.concatenate(([before == 10], ends[:-1]))
            self._rows += int(np.count_nonzero(ends & ~blank))


class _Records:
    """Looks at the records of several lines while the text passes. Rows are numbered if all of it comes by `look`."""

    def __init__(self, shape: RowShape):
        self._shape = shape
        self._begun = b""
        self._rows = 0
        self._spanning = 0
        self._unsure = 0
        self._unsure_row = 0

    def pass_over(self, piece: bytes, inside: bool) -> None:
        """Text without a quotation mark. Raises BrokenQuotes."""
        end = -1 if inside else piece.rfind(b"\n")
        if end >= 0 and b"\n" in self._begun:
            self._spanning += 1
            self._judge(self._begun + piece[: piece.find(b"\n")], self._rows + 1)
        self._begun = self._begun + piece if end < 0 else piece[end + 1 :]

    def look(self, data: bytes, codes: npt.NDArray[np.uint8], inside: bool, opening: Places, closing: Places) -> None:
        """`codes`: those of data; `inside`: whether it begins in a value; where values open and close in it. Raises
        BrokenQuotes.
        """
        line_ends = np.flatnonzero(codes == _LINE_END)
        depth = int(inside) + np.searchsorted(opening, line_ends) - np.searchsorted(closing, line_ends)
        at = np.flatnonzero(depth == 0)
        ends = line_ends[at]
        blank = self._blank(codes, ends)
        if len(at) < len(line_ends) or b"\n" in self._begun:
            for record in self._suspects(codes, line_ends, at).tolist():
                begin = int(ends[record - 1]) + 1 if record else 0
                row = self._rows + record + 1 - int(np.count_nonzero(blank[:record]))
                self._judge((b"" if record else self._begun) + data[begin : int(ends[record])], row)
        self._rows += len(ends) - int(np.count_nonzero(blank))
        self._begun = data[int(ends[-1]) + 1 :] if len(ends) else self._begun + data

    def _blank(self, codes: npt.NDArray[np.uint8], ends: Places) -> npt.NDArray[np.bool_]:
        """Which of these line ends follow another: blank lines are no rows."""
        blank: npt.NDArray[np.bool_] = codes[np.maximum(ends - 1, 0)] == _LINE_END
        if len(ends) and ends[0] == 0:
            blank[0] = not self._begun
        return blank

    def _suspects(self, codes: npt.NDArray[np.uint8], line_ends: Places, at: Places) -> Places:
        """The records of several lines that end here, each line of which has the separators of a row. `at`: which of
        the line ends end a record.
        """
        separators = np.flatnonzero(codes == ord(self._shape.separator))
        poor = np.diff(np.searchsorted(separators, line_ends), prepend=0) < self._shape.width - 1
        if len(poor):
            poor[0] = False  # It began before.
        poor_lines = np.diff(np.cumsum(poor)[at], prepend=0)
        lines = np.diff(at, prepend=-1)
        if len(lines):
            lines[0] += self._begun.count(b"\n")
        self._spanning += int(np.count_nonzero(lines > 1))
        return np.flatnonzero((lines > 1) & (poor_lines == 0))

    def _judge(self, record: bytes, row: int) -> None:
        found = self._shape.swallowed(record.decode("utf-8", "replace"))
        if found:
            raise BrokenQuotes(row, SWALLOWS)
        if found is None:
            self._unsure += 1
            self._unsure_row = self._unsure_row or row

    def finish(self) -> None:
        """Where nothing else tells, what most values are like does. Raises BrokenQuotes."""
        if b"\n" in self._begun:
            self._spanning += 1
            self._judge(self._begun, self._rows + 1)
        if 2 * self._unsure > self._spanning:
            raise BrokenQuotes(self._unsure_row, SWALLOWS)
