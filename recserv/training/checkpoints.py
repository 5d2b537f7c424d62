"""Checkpoints of a build, kept beside its target: an interrupted build resumes from them.

    options, events, catalogue -> fingerprint          the same build, or another one
    stage name, arrays         -> one file, whole or not at all
    the model is written       -> nothing is left

A resumed build gives the same bytes as one that was never interrupted: a checkpoint holds the state of the random
generator too. A checkpoint that cannot be read is ignored, and its stage learned again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recserv.errors import UsageError

logger = logging.getLogger(__name__)

FORMAT = b"recserv checkpoint 2"
Arrays = Mapping[str, npt.NDArray[Any]]


def fingerprint(parts: Iterable[bytes | npt.NDArray[Any] | None]) -> str:
    """Of everything that a build's outcome depends on: 32 hexadecimal digits."""
    digest = hashlib.blake2b(FORMAT, digest_size=16)
    for part in parts:
        data = b"" if part is None else part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


class Checkpoints:
    """Of one build. Files of another fingerprint belong to a build that was given up: they are removed."""

    def __init__(self, directory: Path, build: str):
        self._directory, self._build = directory, build

    @classmethod
    def beside(cls, target: Path, build: str) -> Checkpoints:
        """In a hidden directory beside the model to be written. Raises UsageError if there is no room for it."""
        target = Path(os.path.realpath(target))
        directory = target.parent / f".{target.name}.unfinished"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for path in directory.iterdir():
                if not path.name.endswith(f"-{build}.npz"):
                    path.unlink()
        except OSError as error:
            raise UsageError(f"{directory}: {error.strerror or error}") from error
        return cls(directory, build)

    def stage(self, name: str) -> Checkpoint:
        return Checkpoint(self._directory / f"{name}-{self._build}.npz")

    def clear(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)


class Checkpoint:
    """The newest state of one stage."""

    def __init__(self, path: Path):
        self._path = path

    def load(self) -> dict[str, npt.NDArray[Any]] | None:
        """What was saved last; None where there is nothing, or nothing that can be read."""
        try:
            with np.load(self._path, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, zipfile.BadZipFile, KeyError, EOFError) as error:
            logger.warning("%s cannot be read and is learned again: %s", self._path.name, error)
            return None

    def save(self, arrays: Arrays) -> None:
        """Replaces what was saved before. A full disk costs the checkpoint, not the build."""
        # Named after this process: an orphaned one may still be writing.
        half = self._path.with_suffix(f".{os.getpid()}.half")
        try:
            with half.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
                file.flush()
                os.fsync(file.fileno())
            half.replace(self._path)
        except OSError as error:
            logger.warning("no checkpoint: %s", error.strerror or error)
            half.unlink(missing_ok=True)


def random_state(rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """The whole state of a generator whose state is made of numbers and words, as PCG64's is: JSON, byte by byte."""
    return np.frombuffer(json.dumps(rng.bit_generator.state).encode(), np.uint8)


def restore_random_state(rng: np.random.Generator, stored: npt.NDArray[np.uint8]) -> None:
    rng.bit_generator.state = json.loads(stored.tobytes())
