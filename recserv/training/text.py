"""The text of a file as UTF-8 with LF line ends, whatever its encoding.

    bytes, decompressed -> UTF-8 (a byte order mark or the pattern of the first bytes tells UTF-16; `encoding` tells all
    others) -> lone CR as line end becomes LF

UTF-8, which nearly every file is, passes through as it is; bytes that are not UTF-8 then stay, and the value that holds
them is the one that is bad.
"""

from __future__ import annotations

import codecs
import io
from typing import Any

import pyarrow as pa

from recserv.errors import DatasetError, UsageError
from recserv.training.files import Counted, open_plain

HEAD_BYTES = 1 << 18
LINE_BYTES_MAX = 8 << 20
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_UTF16_ZEROS_SHARE = 0.3
ENCODING_HINT = "; --encoding windows-1252 reads what most such files are written in"


def check_encoding(name: str) -> None:
    """Raises UsageError."""
    try:
        codecs.lookup(name)
        b"".decode(name)
    except LookupError as error:
        raise UsageError(f"--encoding {name}: no such encoding") from error


class TextStream:
    """`read(size)` gives UTF-8; `head` is the beginning of it, up to HEAD_BYTES, read already and given again. What
    goes wrong while a parser reads is kept in `problem`, and the text ends there: parsers hide a file's exceptions.
    """

    def __init__(self, path: str, encoding: str = ""):
        self.path = path
        self.problem: DatasetError | None = None
        self._counted = Counted(path)
        self._decoder: Any = None
        self._lone_cr = False
        try:
            self._plain = open_plain(self._counted)
            first = self._read_plain(HEAD_BYTES)
            encoding, first = _encoding_of(first, encoding)
            if codecs.lookup(encoding).name != "utf-8":
                self._decoder = codecs.getincrementaldecoder(encoding)("strict")
                self._encoding = encoding
            self.encoding = encoding
            self.head = self._decoded(first, final=False)
            # A CR at the very end may be half of a CRLF.
            inside = self.head[:-1]
            self._lone_cr = b"\n" not in inside and b"\r" in inside
            if self._lone_cr:
                self.head = self.head.replace(b"\r", b"\n")
        except BaseException:
            self._counted.close()
            raise
        self.whole = len(first) < HEAD_BYTES
        self._ahead = self.head

    @property
    def done(self) -> int:
        return self._counted.done

    @property
    def total(self) -> int:
        return self._counted.total

    @property
    def closed(self) -> bool:
        return self._counted.closed

    def skip(self, size: int) -> None:
        """Leaves out the first bytes of what is in `head`."""
        self._ahead = self._ahead[size:]

    def read(self, size: int = -1) -> bytes:
        """At least one byte until the text ends; may be more than `size` only where text had to be decoded."""
        if self._ahead:
            data, self._ahead = (self._ahead, b"") if size < 0 else (self._ahead[:size], self._ahead[size:])
            return data
        if self.problem is not None:
            return b""
        try:
            data = self._next(size)
        except DatasetError as error:
            self.problem = error
            return b""
        if 0 <= size < len(data):
            data, self._ahead = data[:size], data[size:]
        return data

    def lines(self) -> io.BufferedReader:
        return io.BufferedReader(_Raw(self), 1 << 20)

    def close(self) -> None:
        self._counted.close()

    def __enter__(self) -> TextStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next(self, size: int) -> bytes:
        while True:
            raw = self._read_plain(size)
            data = self._decoded(raw, final=not raw)
            if self._lone_cr:
                data = data.replace(b"\r", b"\n")
            if data or not raw:
                return data

    def _read_plain(self, size: int) -> bytes:
        try:
            data: bytes = self._plain.read(size) if size >= 0 else self._plain.read()
        except (pa.ArrowException, OSError, EOFError, ValueError) as error:
            raise DatasetError(self.path, f"cannot be read: {first_line(error)}") from error
        return data

    def _decoded(self, raw: bytes, final: bool) -> bytes:
        if self._decoder is None:
            return raw
        try:
            text: str = self._decoder.decode(raw, final)
        except UnicodeDecodeError as error:
            raise DatasetError(self.path, f"cannot be read as {self._encoding}: {error.reason}") from error
        return text.encode("utf-8", "replace")


class _Raw(io.RawIOBase):
    def __init__(self, stream: TextStream):
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _encoding_of(head: bytes, told: str) -> tuple[str, bytes]:
    """The encoding and the head without its mark."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name, head[len(mark) :]
    if told:
        return told, head
    even, odd = head[0:4096:2].count(0), head[1:4096:2].count(0)
    half = max(len(head[:4096]) // 2, 1)
    if len(head) >= 4 and max(even, odd) > _UTF16_ZEROS_SHARE * half and min(even, odd) < max(even, odd) / 4:
        return ("utf-16-le" if odd > even else "utf-16-be"), head
    return "utf-8", head


def first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
