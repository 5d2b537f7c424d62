"""Reading the files of a model: regular, whole and unchanged, before anything in them is parsed.

A file is copied into an anonymous memory map, the copy is hashed, and the copy is what gets used. So what was verified
is what is served: a file that changes while or after it is read can neither slip past the digest nor, by shrinking
under a mapping, kill the process with SIGBUS. Forked workers share the copy's pages.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
import tempfile
import weakref
from pathlib import Path
from types import TracebackType

from recserv.errors import ModelError
from recserv.model.manifest import MANIFEST_FILE, FileEntry

_READ_BYTES = 8 << 20
_HUGE_PAGES_FROM_BYTES = 4 << 20


class ModelDirectory:
    """An open model directory. Files are opened relative to it, so a directory renamed or replaced meanwhile cannot
    mix two models. A context manager.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        try:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise ModelError(str(self.path), f"no such directory; recserv build --out {self.path} makes one") from error
        except OSError as error:
            raise ModelError(str(self.path), f"not a readable directory: {error.strerror}") from error

    def __enter__(self) -> ModelDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def _hint(self, name: str) -> str:
        """For a folder that is no model at all: which of those in it is one."""
        if name != MANIFEST_FILE:
            return ""
        inside = sorted(entry.parent.name for entry in self.path.glob(f"*/{MANIFEST_FILE}"))
        meant = f"; did you mean {self.path / inside[0]}?" if inside else ""
        return f": this is no folder that recserv build wrote{meant}"

    def exists(self, name: str) -> bool:
        """Whether anything, of whatever kind, has this name."""
        try:
            os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def read_small(self, name: str, size_max: int) -> bytes:
        """A file whose size nothing vouches for yet."""
        fd = self._open(name)
        try:
            size = os.fstat(fd).st_size
            if size > size_max:
                raise ModelError(name, f"{size} bytes; at most {size_max} are expected")
            return bytes(_copy(fd, name, size))
        finally:
            os.close(fd)

    def read(self, name: str, entry: FileEntry) -> memoryview:
        """The verified content of a file, read-only. Raises ModelError if it is not what the manifest says."""
        fd = self._open(name)
        try:
            before = os.fstat(fd)
            if before.st_size != entry.size:
                raise ModelError(name, f"{before.st_size} bytes; the manifest says {entry.size}")
            data = _copy(fd, name, entry.size)
            if hashlib.sha256(data).hexdigest() != entry.sha256:
                raise ModelError(name, "its SHA-256 is not the one in the manifest")
            after = os.fstat(fd)
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                raise ModelError(name, "changed while it was read")
            return data
        finally:
            os.close(fd)

    def verified(self, name: str, entry: FileEntry) -> VerifiedFile:
        """As `read`, under a path."""
        return VerifiedFile(name, self.read(name, entry))

    def _open(self, name: str) -> int:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            if stat.S_ISLNK(os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_mode):
                raise ModelError(name, "a symbolic link; only regular files are read")
            fd = os.open(name, flags, dir_fd=self._fd)
        except FileNotFoundError as error:
            raise ModelError(name, f"missing{self._hint(name)}") from error
        except OSError as error:
            raise ModelError(name, f"cannot be opened: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise ModelError(name, "not a regular file")
        return fd


class VerifiedFile:
    """A private copy of a verified content under a path, for a library that opens paths itself. Gone when it is closed,
    or no longer referred to.
    """

    def __init__(self, name: str, data: memoryview):
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create(name, os.MFD_CLOEXEC)
            self.path, temporary = Path(f"/proc/self/fd/{fd}"), ""
        else:
            fd, temporary = tempfile.mkstemp(prefix="recserv-")
            self.path = Path(temporary)
        self._gone = weakref.finalize(self, _discard, fd, temporary)
        done = 0
        while done < len(data):
            done += os.write(fd, data[done:])

    @property
    def closed(self) -> bool:
        return not self._gone.alive

    def close(self) -> None:
        self._gone()


def _discard(fd: int, temporary: str) -> None:
    os.close(fd)
    if temporary:
        os.unlink(temporary)


def _copy(fd: int, name: str, size: int) -> memoryview:
    """`size` bytes of an open file in memory of our own."""
    if size == 0:
        return memoryview(b"")
    memory = mmap.mmap(-1, size)
    if size >= _HUGE_PAGES_FROM_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
        _advise_huge_pages(memory)
    view = memoryview(memory)
    done = 0
    try:
        while done < size:
            count = os.readv(fd, [view[done : done + _READ_BYTES]])
            if count == 0:
                raise ModelError(name, f"ends after {done} of {size} bytes")
            done += count
    except OSError as error:
        raise ModelError(name, f"cannot be read: {error.strerror}") from error
    return view.toreadonly()


def _advise_huge_pages(memory: mmap.mmap) -> None:
    try:
        memory.madvise(mmap.MADV_HUGEPAGE)
    except OSError:
        # Only a hint: kernels built without huge pages refuse it.
        return
