"""The text behind the header of a delimited file as Arrow reads it, checked for what Arrow would not notice.

    text -> without blanks before quotation marks, where the file is written so -> quotation marks (`quotes`)
    -> rows that are not UTF-8 and have too few or too many values: plain ones

Arrow passes a row with the wrong number of values on as text, which fails if it is not UTF-8; a row without those bytes
gets the same verdict.
"""

from __future__ import annotations

import csv
import re
from typing import Literal

from recserv.training.csv_dialect import Dialect, without_blanks
from recserv.training.quotes import BrokenQuotes, QuoteCheck
from recserv.training.text import TextStream

_PLAIN = bytes(code if code < 128 else ord("?") for code in range(256))


class _WithoutBlanks:
    """Latin-1 is how bytes become text here: any byte is a character, and the signs are ASCII."""

    def __init__(self, stream: TextStream, separator: str):
        self._stream, self._separator = stream, separator
        self._held = b""
        # What may go on behind the end of a piece: a separator, blanks, one mark or two.
        self._open_end = re.compile(re.escape(separator.encode()) + rb' *"{0,2}$')

    def read(self, size: int) -> bytes:
        """At least one byte until the text ends."""
        while True:
            piece = self._stream.read(size if size < 0 else max(size - len(self._held), 1))
            data = self._held + piece
            found = self._open_end.search(data) if piece else None
            data, self._held = (data[: found.start()], data[found.start() :]) if found else (data, b"")
            if data or not piece:
                return without_blanks(data.decode("latin-1"), self._separator).encode("latin-1")


def source_of(stream: TextStream, dialect: Dialect) -> TextStream | _WithoutBlanks:
    """The text behind the header."""
    stream.skip(dialect.header_bytes)
    return _WithoutBlanks(stream, dialect.delimiter) if dialect.blanks else stream


class CheckedText:
    """A file for Arrow. `broken`: quotation marks are not as they must be, and the text ended there. `line_ends`: how
    many there were, of quoted text.
    """

    def __init__(self, stream: TextStream, dialect: Dialect):
        self._stream, self._dialect = stream, dialect
        self._source = source_of(stream, dialect)
        self._check = QuoteCheck(dialect.delimiter) if dialect.quotes else None
        self._held = b""
        self.broken = False
        self.line_ends = 0

    @property
    def closed(self) -> bool:
        return self._stream.closed

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; none at the end."""
        if self.broken:
            return b""
        data = self._fed(size - len(self._held) if size > len(self._held) else size)
        if self._held or not data.isascii():
            data = self._whole_lines(data, size)
        return data

    def _fed(self, size: int) -> bytes:
        """The next text, its quotation marks looked at."""
        data = self._source.read(size)
        if self._check is not None:
            self.line_ends += data.count(b"\n")
            try:
                if data:
                    self._check.feed(data)
                else:
                    self._check.finish()
            except BrokenQuotes:
                self.broken = True
                return b""
        return data

    def _whole_lines(self, data: bytes, size: int) -> bytes:
        """Of text that is not all ASCII; what follows the last line end waits, unless there is no room to."""
        last = not data
        data = self._held + data
        self._held = b""
        while not last and b"\n" not in data and len(data) < size:
            more = self._fed(size - len(data))
            last = not more
            data += more
        end = data.rfind(b"\n") + 1
        if not last and end == 0:
            return data  # A line longer than what a parser takes at once.
        if not last:
            data, self._held = data[:end], data[end:]
        try:
            data.decode()
        except UnicodeDecodeError:
            data = b"".join(map(self._readable, data.splitlines(keepends=True)))
        if 0 <= size < len(data):
            data, self._held = data[:size], data[size:] + self._held
        return data

    def _readable(self, line: bytes) -> bytes:
        try:
            line.decode()
        except UnicodeDecodeError:
            return line if self._width(line) == len(self._dialect.names) else line.translate(_PLAIN)
        return line

    def _width(self, line: bytes) -> int:
        separator = self._dialect.delimiter
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if self._dialect.quotes else csv.QUOTE_NONE
        try:
            return len(next(csv.reader([line.decode("latin-1")], delimiter=separator, quoting=quoting), []))
        except csv.Error:
            return -1
