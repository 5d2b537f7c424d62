"""The model as the server opens it: verified, with its index; of a bad one its popular items, if so configured.

MODEL_DIR -> snapshot (every file verified) -> vector index, if there is one -> Model
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property

import msgspec

from recserv.config import Settings
from recserv.errors import IndexUnavailable, ModelError, UsageError
from recserv.index.listed import ListedIndex
from recserv.model.manifest import INDEX_FILE
from recserv.model.snapshot import ModelSnapshot, load_popular, load_snapshot
from recserv.pipeline.engine import Engine

logger = logging.getLogger("recserv.app")


@dataclass(frozen=True)
class Model:
    """`packed`: sessions come packed, from a store that is not in this process."""

    snapshot: ModelSnapshot
    index: ListedIndex | None
    packed: bool

    @cached_property
    def engine(self) -> Engine:
        """Made when it is first asked for: before a fork, so that its arrays are shared, and not by a request."""
        engine = Engine(self.snapshot, self.index)
        if self.packed:
            _ = engine.lookup
        return engine


def load_model(settings: Settings) -> Model:
    """The verified model, its index if there is one. Raises UsageError naming the directory, the file and the fault."""
    packed = not settings.state.startswith("embedded:")
    try:
        snapshot = load_snapshot(settings.model)
    except ModelError as error:
        if settings.on_bad_model != "popular":
            raise UsageError(f"model {settings.model}: {error}") from error
        logger.error("bad model, serving its popular items only", extra={"fields": {"problem": str(error)}})
        return Model(_popular(settings.model), None, packed)
    return Model(snapshot, _open_index(snapshot), packed)


def load_whole_model(settings: Settings) -> Model:
    """A model that may replace the one that serves: nothing of it is missing or damaged, whatever the settings accept
    at the start. Its engine is made. Raises UsageError.
    """
    model = load_model(msgspec.structs.replace(settings, on_bad_model="refuse"))
    if model.index is None and INDEX_FILE in model.snapshot.manifest.files:
        raise UsageError(f"model {settings.model}: {INDEX_FILE}: missing or not readable")
    try:
        _ = model.engine
    except ModelError as error:
        raise UsageError(f"model {settings.model}: {error}") from error
    return model


def _popular(path: str) -> ModelSnapshot:
    try:
        return load_popular(path)
    except ModelError as error:
        raise UsageError(f"model {path}: not even its popular items can be read: {error}") from error


def _open_index(snapshot: ModelSnapshot) -> ListedIndex | None:
    if snapshot.index_path is None:
        logger.warning("the model has no vector index; the other sources answer")
        return None
    try:
        with snapshot.verified_index() as path:
            return ListedIndex.load(path, snapshot.embeddings, snapshot.nearest_items)
    except (ModelError, IndexUnavailable) as error:
        logger.warning("the vector index cannot be opened", extra={"fields": {"problem": str(error)}})
        return None
