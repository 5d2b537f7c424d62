"""What Arrow reads of a delimited file: the text behind the header, looked at for what Arrow would pass over.

    text -> quotation marks (`quotes`) -> rows that are not UTF-8 and have too few or too many values: plain ones

Arrow hands a row with the wrong number of values over as text, and fails to where it is not UTF-8; its verdict is the
same for one without those bytes.
"""

from __future__ import annotations

import csv
from typing import Literal

from recserv.training.csv_dialect import Dialect
from recserv.training.quotes import BrokenQuotes, QuoteCheck
from recserv.training.text import TextStream

_PLAIN = bytes(code if code < 128 else ord("?") for code in range(256))


class CheckedText:
    """A file for Arrow. `broken`: quotation marks are not as they must be, and the text ended there."""

    def __init__(self, stream: TextStream, dialect: Dialect):
        self._stream, self._dialect = stream, dialect
        self._check = QuoteCheck(dialect.delimiter) if dialect.quotes else None
        self._held = b""
        self.broken = False
        stream.skip(dialect.header_bytes)

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
        data = self._stream.read(size)
        if self._check is not None:
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
