"""What a model says of itself: `manifest.json`, and `seal.json` that covers it.

The manifest lists every other file with its size and SHA-256 and holds nothing that depends on when or where the model
was built, so two builds from the same data with the same seed are the same bytes. `model_version` is a digest of the
manifest's own content. The seal carries the manifest's digest, the time of the build and a digest of itself: a flipped
bit in either file is noticed, and the clock stays out of everything that is compared between builds.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

from recserv.errors import ModelError
from recserv.model.data_report import DataReport

FORMAT_VERSION = 4
METRIC = "inner_product"
MANIFEST_FILE = "manifest.json"
SEAL_FILE = "seal.json"
INDEX_FILE = "index.hnsw"

DIMENSIONS_MAX = 1024
ITEMS_MAX = 2**31 - 1
_VERSION_DIGITS = 16
_NEWER = "; it may be of a newer recserv: build the model again, or update this one"

Behaviour = Literal["bought", "viewed"]


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`size` in bytes, `sha256` in lower-case hexadecimal digits."""

    size: int
    sha256: str


class TrainingSummary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the model was built from. Times are None where the data carry none."""

    events: int = 0
    sessions: int = 0
    items_with_events: int = 0
    skipped_rows: int = 0
    first_event_ms: int | None = None
    last_event_ms: int | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`items` n, `dimensions` d, `sessions` s, `categories` c of the format; `behaviour` is what most events are;
    `data` what the files were found to hold, which older models do not say.
    """

    format_version: int = FORMAT_VERSION
    model_version: str = ""
    metric: str = METRIC
    behaviour: Behaviour = "viewed"
    items: int
    dimensions: int
    sessions: int
    categories: int
    training: TrainingSummary = TrainingSummary()
    data: DataReport | msgspec.UnsetType = msgspec.UNSET
    options: dict[str, str | int | float | bool | None] = {}
    files: dict[str, FileEntry] = {}


class Seal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    manifest_sha256: str
    built_at_ms: int
    seal_sha256: str = ""


class _Version(msgspec.Struct):
    format_version: int


_ENCODER = msgspec.json.Encoder(order="sorted")


def encode_manifest(manifest: Manifest) -> tuple[Manifest, bytes]:
    """The manifest with its `model_version` filled in, and the bytes of `manifest.json`."""
    version = _version_of(msgspec.to_builtins(manifest))
    named = msgspec.structs.replace(manifest, model_version=version)
    return named, msgspec.json.format(_ENCODER.encode(named), indent=2) + b"\n"


def _version_of(content: dict[str, Any]) -> str:
    return hashlib.sha256(_ENCODER.encode({**content, "model_version": ""})).hexdigest()[:_VERSION_DIGITS]


def encode_seal(manifest_bytes: bytes, built_at_ms: int) -> bytes:
    """The bytes of `seal.json`."""
    unsealed = Seal(manifest_sha256=hashlib.sha256(manifest_bytes).hexdigest(), built_at_ms=built_at_ms)
    digest = hashlib.sha256(_ENCODER.encode(unsealed)).hexdigest()
    return _ENCODER.encode(msgspec.structs.replace(unsealed, seal_sha256=digest)) + b"\n"


def decode(manifest_bytes: bytes, seal_bytes: bytes) -> tuple[Manifest, Seal]:
    """Both files, verified against each other and against themselves. Raises ModelError."""
    seal = _decode_seal(seal_bytes)
    if hashlib.sha256(manifest_bytes).hexdigest() != seal.manifest_sha256:
        raise ModelError(MANIFEST_FILE, f"its SHA-256 is not the one in {SEAL_FILE}")
    try:
        version = msgspec.json.decode(manifest_bytes, type=_Version).format_version
        if version != FORMAT_VERSION:
            wanted = f"this recserv reads version {FORMAT_VERSION}: build the model again"
            raise ModelError(MANIFEST_FILE, f"format version {version}; {wanted}")
        manifest = msgspec.json.decode(manifest_bytes, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        newer = _NEWER if "unknown field" in str(error) else ""
        raise ModelError(MANIFEST_FILE, f"not a manifest: {error}{newer}") from error
    _check(manifest, manifest_bytes)
    return manifest, seal


def _decode_seal(data: bytes) -> Seal:
    try:
        seal = msgspec.json.decode(data, type=Seal)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(SEAL_FILE, f"not a seal: {error}") from error
    unsealed = msgspec.structs.replace(seal, seal_sha256="")
    digest = hashlib.sha256(_ENCODER.encode(unsealed)).hexdigest()
    if data != _ENCODER.encode(msgspec.structs.replace(seal, seal_sha256=digest)) + b"\n":
        raise ModelError(SEAL_FILE, "its SHA-256 is not the one it carries")
    return seal


def _check(manifest: Manifest, content: bytes) -> None:
    if manifest.metric != METRIC:
        raise ModelError(MANIFEST_FILE, f"metric {manifest.metric!r}; this recserv knows {METRIC!r}")
    if not 1 <= manifest.dimensions <= DIMENSIONS_MAX:
        raise ModelError(MANIFEST_FILE, f"dimensions {manifest.dimensions}; must be 1..{DIMENSIONS_MAX}")
    for name in ("items", "sessions", "categories"):
        count = getattr(manifest, name)
        if not (1 if name == "items" else 0) <= count <= ITEMS_MAX:
            raise ModelError(MANIFEST_FILE, f"{name} {count} is out of range")
    # Of what is written there, and not of what this recserv would write: it may know fields that an older one did not.
    if _version_of(msgspec.json.decode(content)) != manifest.model_version:
        raise ModelError(MANIFEST_FILE, "model_version is not the digest of its content")
