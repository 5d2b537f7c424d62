"""Objects of JSON files: one a line, or the elements of one array, with their numbers from 1."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from recserv.errors import DatasetError
from recserv.training.text import LINE_BYTES_MAX, TextStream

LINES_A_BATCH = 1 << 15
NOT_UTF8 = "not UTF-8"
_PIECE_BYTES = 1 << 20
_BETWEEN = re.compile(r"[ \t\r\n,]*")


class Records(NamedTuple):
    """`good` objects and the numbers of their lines or elements; `bad`: number and what is wrong."""

    rows: list[int]
    good: list[dict[str, Any]]
    bad: list[tuple[int, str]]


def numbered_lines(stream: TextStream, count_max: int) -> Iterator[tuple[list[int], list[bytes]]]:
    """Lines that are not blank, in batches. Raises DatasetError for a line that is too long."""
    numbers: list[int] = []
    lines: list[bytes] = []
    size = 0
    number = 0
    file = stream.lines()
    while line := file.readline(LINE_BYTES_MAX):
        number += 1
        if len(line) == LINE_BYTES_MAX:
            raise DatasetError(stream.path, f"a line of more than {LINE_BYTES_MAX} bytes", row=number)
        if not line.isspace():
            numbers.append(number)
            lines.append(line)
            size += len(line)
        if len(lines) == count_max or size > LINE_BYTES_MAX:
            yield numbers, lines
            numbers, lines, size = [], [], 0
    if lines:
        yield numbers, lines


def records(stream: TextStream, count_max: int) -> Iterator[Records]:
    if stream.head.lstrip().startswith(b"[") and not _is_list_a_line(stream.head):
        yield from _elements(stream, count_max)
        return
    for numbers, lines in numbered_lines(stream, count_max):
        batch = Records([], [], [])
        for number, line in zip(numbers, lines, strict=True):
            _sort(batch, number, line)
        yield batch


def _is_list_a_line(head: bytes) -> bool:
    """Whether the first line is a whole array and not all of the file: lines of arrays are no objects."""
    line, _, rest = head.lstrip().partition(b"\n")
    if not rest.strip():
        return False
    try:
        msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _sort(batch: Records, number: int, text: bytes) -> None:
    record = _record(text)
    if isinstance(record, dict):
        batch.rows.append(number)
        batch.good.append(record)
    else:
        batch.bad.append((number, record))


def _record(text: bytes) -> dict[str, Any] | str:
    """The object, or what is wrong."""
    try:
        record = msgspec.json.decode(text)
    except UnicodeDecodeError:
        return NOT_UTF8
    except (msgspec.DecodeError, RecursionError) as error:
        return NOT_UTF8 if "utf-8" in str(error).lower() else "not a JSON object"
    return record if isinstance(record, dict) else "not a JSON object"


def _elements(stream: TextStream, count_max: int) -> Iterator[Records]:
    """Of one array, without holding more of it than an element and a piece."""
    scanner = json.JSONDecoder()
    decoder = codecs.getincrementaldecoder("utf-8")()
    text, at, number, last = "", -1, 0, False
    batch = Records([], [], [])
    while True:
        if at < 0:
            at = text.find("[") + 1 or -1
        at = _BETWEEN.match(text, max(at, 0)).end() if at >= 0 else at  # type: ignore[union-attr] # matches nothing too
        if at >= 0 and text[at : at + 1] == "]":
            break
        end = _end(scanner, text, at, last) if at >= 0 else -1
        if end >= 0:
            number += 1
            _sort(batch, number, text[at:end].encode("utf-8", "surrogatepass"))
            at = end
            if len(batch.rows) >= count_max:
                yield batch
                batch = Records([], [], [])
            continue
        if last or len(text) - max(at, 0) > LINE_BYTES_MAX:
            yield batch
            problem = "the array of objects is broken here, or not closed"
            raise stream.problem or DatasetError(stream.path, problem, row=number + 1)
        piece = stream.read(_PIECE_BYTES)
        last = not piece
        try:
            text = text[max(at, 0) :] + decoder.decode(piece, last)
        except UnicodeDecodeError as error:
            raise DatasetError(stream.path, NOT_UTF8, row=number + 1) from error
        at = min(at, 0)
    yield batch


def _end(scanner: json.JSONDecoder, text: str, at: int, last: bool) -> int:
    """Where the value that begins at `at` ends; -1: it is not whole. What reaches to the very end may go on."""
    try:
        _, end = scanner.raw_decode(text, at)
    except (ValueError, RecursionError):
        return -1
    return end if last or end < len(text) else -1
