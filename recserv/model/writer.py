"""Writing a model directory, whole or not at all.

Everything goes into a new directory beside the target, every file is flushed to the disk, and one rename puts it in
place. A model that is already there is exchanged in one step where the system can, so a reader finds the old or the
new one, never half of either.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from recserv.errors import UsageError
from recserv.model import layout
from recserv.model.layout import Array
from recserv.model.manifest import (
    INDEX_FILE,
    MANIFEST_FILE,
    SEAL_FILE,
    FileEntry,
    Manifest,
    encode_manifest,
    encode_seal,
)
from recserv.model.ranker import Ranker, encode_ranker

_HASH_BYTES = 8 << 20
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@dataclass(frozen=True)
class ModelContents:
    """What goes into a model. `arrays` by name of `layout.ARRAYS`, `blobs` by file name of `layout.BLOB_FILES`;
    `write_index` writes the index to the path it is given, None leaves the index out. `manifest` carries the counts;
    files and version are filled in here.
    """

    manifest: Manifest
    arrays: Mapping[str, Array]
    blobs: Mapping[str, bytes]
    write_index: Callable[[Path], None] | None = field(default=None)

    def ranked_by(self, ranker: Ranker) -> ModelContents:
        return replace(self, blobs={**self.blobs, layout.RANKER_FILE: encode_ranker(ranker)})


def save_snapshot(
    contents: ModelContents, path: Path | str, *, now_ms: int | None = None, durable: bool = True
) -> Manifest:
    """Writes the model to `path`, replacing a model that is there. Returns the manifest as written.

    `now_ms` is the time of the build that the seal records; the wall clock if None. `durable` false leaves it
    to the system when the files reach the disk. Raises UsageError if `path` holds
    something other than a model or cannot be written.
    """
    target = Path(os.path.realpath(path))
    check_target(target)
    building = target.parent / f".{target.name}.building-{os.getpid()}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir()
        try:
            manifest = _write_all(contents, building, time.time_ns() // 1_000_000 if now_ms is None else now_ms)
            if durable:
                for file in (*building.iterdir(), building):
                    _flush(file)
            _put_in_place(building, target)
            if durable:
                _flush(target.parent)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    except OSError as error:
        raise UsageError(f"{path}: the model cannot be written: {error.strerror or error}") from error
    return manifest


def check_target(path: Path) -> None:
    """Raises UsageError if writing a model to `path` would destroy anything but a model."""
    if not path.exists():
        return
    if not path.is_dir():
        raise UsageError(f"{path}: exists and is not a directory")
    if any(path.iterdir()) and not (path / MANIFEST_FILE).exists():
        raise UsageError(f"{path}: holds something other than a model; choose another directory")


def _write_all(contents: ModelContents, directory: Path, now_ms: int) -> Manifest:
    known = layout.counts(contents.manifest)
    files: dict[str, FileEntry] = {}
    for name, spec in layout.ARRAYS.items():
        array = contents.arrays.get(name, layout.absent(name)) if spec.optional else contents.arrays[name]
        if spec.optional and not len(array):
            continue
        layout.check_shape(name, array.dtype, array.shape, known)
        files[layout.file_name(name)] = _write_file(directory / layout.file_name(name), layout.encode_array(array))
    for name in layout.BLOB_FILES:
        files[name] = _write_file(directory / name, contents.blobs[name])
    if contents.write_index is not None:
        contents.write_index(directory / INDEX_FILE)
        files[INDEX_FILE] = _entry(directory / INDEX_FILE)
    manifest, manifest_bytes = encode_manifest(msgspec.structs.replace(contents.manifest, files=files))
    _write_file(directory / MANIFEST_FILE, manifest_bytes)
    _write_file(directory / SEAL_FILE, encode_seal(manifest_bytes, now_ms))
    return manifest


def _write_file(path: Path, data: bytes) -> FileEntry:
    path.write_bytes(data)
    return FileEntry(len(data), hashlib.sha256(data).hexdigest())


def _entry(path: Path) -> FileEntry:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_HASH_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return FileEntry(size, digest.hexdigest())


def _flush(path: Path) -> None:
    """A file's content, or a directory's names, onto the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _put_in_place(building: Path, target: Path) -> None:
    if not target.exists():
        building.rename(target)
    elif not _exchange(building, target):
        old = target.parent / f".{target.name}.old-{os.getpid()}"
        target.rename(old)
        building.rename(target)
        shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swaps two names in one step. False where the system or the file system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(other))
