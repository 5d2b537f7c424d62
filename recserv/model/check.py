"""What `recserv check MODEL_DIR` tells: what is in a model, and whether it is whole."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

from recserv.errors import ModelError
from recserv.model.data_report import DataReport
from recserv.model.manifest import INDEX_FILE, TrainingSummary
from recserv.model.snapshot import ORIGIN_BEHAVIOUR, ORIGIN_CONTENT, ModelSnapshot, load_snapshot


class FileReport(msgspec.Struct, frozen=True):
    name: str
    size_bytes: int


class ModelReport(msgspec.Struct, frozen=True, kw_only=True):
    """`problem` is empty for a whole model; `problem_file` then too. Of a model that is not only `files` is known."""

    path: str
    whole: bool
    problem_file: str = ""
    problem: str = ""
    files: tuple[FileReport, ...] = ()
    version: str = ""
    format_version: int = 0
    behaviour: str = ""
    age_s: float = 0.0
    built_at_ms: int = 0
    dimensions: int = 0
    items: int = 0
    items_available: int = 0
    items_from_behaviour: int = 0
    items_from_content: int = 0
    categories: int = 0
    sessions: int = 0
    neighbours: int = 0
    has_index: bool = False
    training: TrainingSummary = TrainingSummary()
    data: DataReport | None = None
    options: dict[str, str | int | float | bool | None] = {}

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


def describe(path: Path | str, *, now_ms: int | None = None) -> ModelReport:
    """Loads and verifies the model in `path`. Never raises for a damaged model: the report says what is wrong."""
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    try:
        model = load_snapshot(path)
        if model.index_path is None and INDEX_FILE in model.manifest.files:
            raise ModelError(INDEX_FILE, "missing; a server that starts with this model serves without it")
        return _whole(model, now_ms)
    except ModelError as error:
        return ModelReport(
            path=str(path), whole=False, problem_file=error.file, problem=error.problem, files=_sizes(Path(path))
        )


def _whole(model: ModelSnapshot, now_ms: int) -> ModelReport:
    manifest = model.manifest
    return ModelReport(
        path=str(model.path),
        whole=True,
        files=_sizes(model.path),
        version=model.version,
        format_version=manifest.format_version,
        behaviour=model.behaviour,
        age_s=(now_ms - model.built_at_ms) / 1000,
        built_at_ms=model.built_at_ms,
        dimensions=model.dimensions,
        items=model.item_count,
        items_available=int(model.available.sum()),
        items_from_behaviour=int((model.embedding_origin == ORIGIN_BEHAVIOUR).sum()),
        items_from_content=int((model.embedding_origin == ORIGIN_CONTENT).sum()),
        categories=manifest.categories,
        sessions=manifest.sessions,
        neighbours=len(model.covisitation_items),
        has_index=model.index_path is not None,
        training=manifest.training,
        data=manifest.data or None,
        options=manifest.options,
    )


def _sizes(path: Path) -> tuple[FileReport, ...]:
    """Of the files of a model that are there, largest first."""
    try:
        with os.scandir(path) as entries:
            found = [
                FileReport(entry.name, entry.stat(follow_symlinks=False).st_size)
                for entry in entries
                if entry.name.endswith((".npy", ".bin", ".json", ".hnsw"))
            ]
    except OSError:
        # The problem is in the report already: the directory itself could not be read.
        return ()
    return tuple(sorted(found, key=lambda file: (-file.size_bytes, file.name)))
