"""Models that are whole by every digest and still wrong: what only a faulty writer would make."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from recserv.model.layout import encode_array, file_name
from recserv.model.manifest import FileEntry, Manifest, encode_manifest, encode_seal


def copy_model(model: Path, target: Path) -> Path:
    shutil.copytree(model, target)
    return target


def read_manifest(model: Path) -> Manifest:
    return msgspec.json.decode((model / "manifest.json").read_bytes(), type=Manifest)


def reseal(model: Path, **changes: Any) -> None:
    """Puts what the directory holds now, and the changes, into a manifest and a seal that fit."""
    manifest = msgspec.structs.replace(read_manifest(model), **changes)
    files = {name: _entry(model / name) for name in manifest.files}
    _, data = encode_manifest(msgspec.structs.replace(manifest, files=files))
    (model / "manifest.json").write_bytes(data)
    (model / "seal.json").write_bytes(encode_seal(data, 0))


def write_array(model: Path, name: str, array: np.ndarray[Any, Any]) -> None:
    (model / file_name(name)).write_bytes(encode_array(array))
    reseal(model)


def read_array(model: Path, name: str) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = np.load(model / file_name(name))
    return array


def _entry(path: Path) -> FileEntry:
    data = path.read_bytes()
    return FileEntry(len(data), hashlib.sha256(data).hexdigest())
