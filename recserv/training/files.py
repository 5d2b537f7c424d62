"""Finds input files, tells their kind, and decompresses them.

    paths -> expand: folders become their part files -> kind_of -> Counted: a file that knows how much of it was read
    -> open_plain: the bytes, decompressed

Compression is told by the first bytes, not by the name; the kind by the name where it says one, else by the content.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from recserv.errors import DatasetError

Kind = Literal["parquet", "csv", "json", "sessions"]

KINDS: dict[str, Kind] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".psv": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".txt": "sessions",
}
_COMPRESSIONS = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bz2"), (b"\x04\x22\x4d\x18", "lz4"))
_COMPRESSED_SUFFIXES = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd", ".bz2": "bz2", ".lz4": "lz4"}
_PARQUET = b"PAR1"
_ZIP = b"PK\x03\x04"


def expand(paths: Sequence[str]) -> list[str]:
    """Files as they are given; of a folder all files in it and below, by name, without what data tools leave beside
    their parts (`_SUCCESS`, `.crc`) and without empty ones. Raises DatasetError for a folder without files.
    """
    found = []
    for path in paths:
        if not Path(path).is_dir():
            found.append(path)
            continue
        parts = [str(part) for part in sorted(Path(path).rglob("*")) if _is_part(Path(path), part)]
        if not parts:
            raise DatasetError(path, "the folder has no file with rows")
        found += parts
    return found


def _is_part(folder: Path, path: Path) -> bool:
    hidden = any(name.startswith(("_", ".")) for name in path.relative_to(folder).parts)
    return path.is_file() and not hidden and path.suffix != ".crc" and path.stat().st_size > 0


def kind_of(path: str) -> Kind:
    """Raises DatasetError for a file that is missing, empty or of an unknown kind."""
    if not Path(path).is_file():
        raise DatasetError(path, "no such file")
    if Path(path).stat().st_size == 0:
        raise DatasetError(path, "the file is empty")
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    packed = suffixes[-1:] and suffixes[-1] in _COMPRESSED_SUFFIXES
    inner = suffixes[-2:-1] if packed else suffixes[-1:]
    kind = KINDS.get(inner[0]) if inner else None
    if kind == "parquet" and packed:
        kind = None
    elif kind is None:
        kind = _kind_by_content(path)
    if kind is None:
        if _first_bytes(path).startswith(_ZIP):
            raise DatasetError(path, "a zip archive or a spreadsheet: unpack it, or save it as CSV")
        raise DatasetError(path, f"unknown kind of file; known are {', '.join(sorted(KINDS))}, packed or not")
    return kind


def _kind_by_content(path: str) -> Kind | None:
    """Of a file whose name says nothing, such as a part file."""
    head = _first_bytes(path)
    if head.startswith(_PARQUET):
        return "parquet"
    if head.startswith(_ZIP):
        return None
    if any(head.startswith(magic) for magic, _ in _COMPRESSIONS):
        try:
            with Counted(path) as counted:
                head = open_plain(counted).read(1 << 12)
        except (pa.ArrowException, OSError, EOFError) as error:
            raise DatasetError(path, f"cannot be read: {error}") from error
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith((b"{", b"[")):
        return "json"
    return "csv" if any(separator in text.partition(b"\n")[0] for separator in (b",", b"\t", b";", b"|")) else None


def _first_bytes(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(1 << 12)


class Counted(io.RawIOBase):
    """A file that counts the bytes read from it, before decompression."""

    def __init__(self, path: str):
        self._file = Path(path).open("rb")  # noqa: SIM115 - closed by close()
        self.path = path
        self.total = Path(path).stat().st_size
        self.done = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.done += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(buffer)
        self.done += count
        return count

    def peek(self, size: int) -> bytes:
        return self._file.peek(size)[:size]

    def close(self) -> None:
        self._file.close()
        super().close()


def open_plain(counted: Counted) -> Any:
    """Something with `read(size)` that gives the bytes, decompressed. Raises DatasetError for a name that promises a
    compression which the bytes do not have.
    """
    head = counted.peek(8)
    compression = next((name for magic, name in _COMPRESSIONS if head.startswith(magic)), None)
    promised = _COMPRESSED_SUFFIXES.get(Path(counted.path).suffix.lower())
    if promised is not None and compression is None:
        raise DatasetError(counted.path, f"cannot be read: the name says {promised}, the content is not")
    if compression is None:
        return counted
    return pa.input_stream(pa.PythonFile(counted, mode="r"), compression=compression)
