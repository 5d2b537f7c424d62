"""The model: an immutable directory of arrays, verified before anything in it is parsed, mapped into memory.

    manifest.json                 format version, counts, dimensions, metric, options, size and SHA-256 of each file
    seal.json                     SHA-256 of manifest.json and of itself; time of the build, which no other file knows
    item_ids.bin                  item ids, UTF-8, one after the other      item_id_offsets.npy        int64 [n + 1]
    items.bin                     `types.Item` as msgpack, one after the other   item_offsets.npy      int64 [n + 1]
    available.npy                 uint8 [n]
    item_groups.npy               int32 [n], or no such file: which items are variants of one product have the same
                                  code, those of none have -1
    categories.json               category names; numbers name them        (c names)
    item_category_offsets.npy     int64 [n + 1]     item_categories.npy     int32   general to specific
    embeddings.npy                float32 [n, d], rows of unit length; a zero row: no vector, not in the index
    embedding_origin.npy          uint8 [n]: 0 none, 1 behaviour, 2 content
    nearest_items.npy             int32 [n, w]: per item itself and the most similar ones of the index by their vectors,
                                  nearest first, filled up with -1; w = 0: none are listed
    index.hnsw                    hnswlib, inner product over embeddings.npy, labels are item rows; of items that
                                  nothing tells apart, and of variants, some stand for all
    covisitation_offsets.npy      int64 [n + 1]     covisitation_items.npy  int32   covisitation_weights.npy float32
                                  per item its neighbours, heaviest first, weights > 0
    knn_item_offsets.npy          int64 [n + 1]     knn_item_sessions.npy   int32   per item its sessions, newest first;
                                  sessions are numbered from the oldest to the newest
    knn_session_offsets.npy       int64 [s + 1]     knn_session_items.npy   int32   per session its items in time order,
                                  each once, at its last place; at most 50 a session
    knn_session_age.npy           float32 [s], days before the newest event (0 where the data carry no time)
    knn_item_idf.npy              float32 [n]
    popularity.npy                float32 [n], weighted event counts        popularity_recent.npy      float32 [n]
    popular_items.npy             int32, at most 1000, most popular first   trending_items.npy         int32, by recency
    category_popular_offsets.npy  int64 [c + 1]     category_popular_items.npy  int32, at most 200 a category
    words.json                    words of the catalogue, most frequent first; numbers name them      (w words)
    word_vectors.npy              float32 [w, d], rows of unit length or zero
    word_rarity.npy               float32 [w], > 0: the weight of a word in a query
    search_words.npy              int64, ascending: a key of each word of title, brand, tags and categories (`words`)
    search_word_offsets.npy       int64, one more than words                search_word_items.npy      int32   per word
                                  the items that hold it, ascending
    item_importance.npy           float32 [n], > 0: how much an item says of the session that it is in; 1 is the mean
    position_weights.npy          float32 [at most 100], > 0: what an event says by its place, newest first; the last
                                  one holds for all older ones
    ranker.json                   what the features of a candidate are worth (`ranker`)

n items, d dimensions, s sessions, c categories. Items are numbered from the most to the least popular. No pickle
anywhere. The index file alone may be absent: the other sources then answer, and the answer says so.

Stages of a load: open the directory (`files`) -> seal and manifest (`manifest`) -> size and digest of every file
(`files`) -> arrays (`layout`) -> what must hold between them (`validate`) -> `ModelSnapshot`. Every problem is a
ModelError that names the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from recserv.errors import ModelError
from recserv.model import items as item_table
from recserv.model import layout, validate
from recserv.model.files import ModelDirectory, VerifiedFile
from recserv.model.items import ItemTable
from recserv.model.layout import ARRAYS, Array
from recserv.model.manifest import INDEX_FILE, MANIFEST_FILE, SEAL_FILE, Manifest, decode
from recserv.model.ranker import NO_RANKER, Ranker, decode_ranker
from recserv.model.words import WordTable

ORIGIN_NONE, ORIGIN_BEHAVIOUR, ORIGIN_CONTENT = 0, 1, 2

_SEAL_BYTES_MAX = 4096
_MANIFEST_BYTES_MAX = 4 << 20

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ModelSnapshot:
    """A verified model. Arrays are read-only, shapes and dtypes as in the format above, in fields and, all of them, in
    `arrays` by the names of `layout.ARRAYS`: a source of candidates whose arrays are no fields finds them there.
    Immutable; safe to share.
    """

    path: Path
    version: str
    manifest: Manifest
    built_at_ms: int
    items: ItemTable
    category_names: list[str]
    ranker: Ranker
    words: WordTable
    index_path: Path | None
    popular_only: bool
    embeddings: Floats
    embedding_origin: Bytes
    nearest_items: Indices
    available: Bytes
    item_groups: Indices
    item_category_offsets: Offsets
    item_categories: Indices
    covisitation_offsets: Offsets
    covisitation_items: Indices
    covisitation_weights: Floats
    knn_item_offsets: Offsets
    knn_item_sessions: Indices
    knn_session_offsets: Offsets
    knn_session_items: Indices
    knn_session_age: Floats
    knn_item_idf: Floats
    popularity: Floats
    popularity_recent: Floats
    popular_items: Indices
    trending_items: Indices
    category_popular_offsets: Offsets
    category_popular_items: Indices
    word_vectors: Floats
    word_rarity: Floats
    search_words: Offsets
    search_word_offsets: Offsets
    search_word_items: Indices
    item_importance: Floats
    position_weights: Floats
    arrays: Mapping[str, Array] = field(repr=False)
    _categories: dict[str, int] = field(repr=False)
    _index: VerifiedFile | None = field(repr=False)

    @property
    def item_count(self) -> int:
        return self.manifest.items

    @property
    def dimensions(self) -> int:
        return self.manifest.dimensions

    @property
    def behaviour(self) -> str:
        """Either "bought" if most item events of the training data are purchases, or "viewed"."""
        return self.manifest.behaviour

    def category_number(self, name: str) -> int:
        """-1 for a category that the model does not know."""
        return self._categories.get(name, -1)

    @contextmanager
    def verified_index(self) -> Iterator[Path]:
        """A path whose content is the index file as it was verified, whatever has become of the directory since, for a
        library that opens paths itself.

        The copy takes memory until the first of these ends; who comes later gets one that is read and verified anew.
        Raises ModelError.
        """
        if self.index_path is None:
            raise ModelError(INDEX_FILE, "missing")
        copy = self._index
        if copy is None or copy.closed:
            with ModelDirectory(self.path) as directory:
                copy = directory.verified(INDEX_FILE, self.manifest.files[INDEX_FILE])
        try:
            yield copy.path
        finally:
            copy.close()


def load_snapshot(path: Path | str, *, allow_missing_index: bool = True) -> ModelSnapshot:
    """The model in a directory, wholly verified. Raises ModelError."""
    with ModelDirectory(path) as directory:
        manifest, built_at_ms = _read_manifest(directory)
        blobs = {name: directory.read(name, manifest.files[name]) for name in layout.BLOB_FILES}
        arrays = {name: _read_array(directory, manifest, name) for name in ARRAYS}
        index = _verified_index(directory, manifest, allow_missing_index)
    table = _item_table(arrays, blobs[layout.ITEM_IDS_FILE], blobs[layout.ITEMS_FILE])
    item_table.check_items(table)
    names = _decode_json(layout.CATEGORIES_FILE, blobs[layout.CATEGORIES_FILE], list[str])
    if len(names) != manifest.categories or len(set(names)) != len(names):
        raise ModelError(layout.CATEGORIES_FILE, f"must hold {manifest.categories} different names")
    validate.check_arrays(arrays, manifest.items, manifest.sessions, manifest.categories)
    ranker = decode_ranker(blobs[layout.RANKER_FILE])
    words = _decode_json(layout.WORDS_FILE, blobs[layout.WORDS_FILE], list[str])
    validate.check_words(arrays, len(words))
    validate.check_word_lists(arrays, manifest.items)
    return _snapshot(
        Path(path),
        manifest,
        built_at_ms,
        arrays,
        items=table,
        categories=names,
        words=words,
        ranker=ranker,
        index=index,
    )


def load_popular(path: Path | str) -> ModelSnapshot:
    """As much of a damaged model as it takes to serve popular items: manifest, item ids, availability, popular lists.

    Everything else is empty: no vectors, no neighbours, no sessions, no categories, items that know their id alone.
    Raises ModelError if one of those few files is damaged too.
    """
    needed = ("item_id_offsets", "available", "popular_items", "trending_items")
    with ModelDirectory(path) as directory:
        manifest, built_at_ms = _read_manifest(directory)
        ids = directory.read(layout.ITEM_IDS_FILE, manifest.files[layout.ITEM_IDS_FILE])
        arrays = {name: _read_array(directory, manifest, name) for name in needed}
        arrays["item_groups"] = _readable_groups(directory, manifest)
    table = _item_table(arrays, ids, None)
    for name in ("popular_items", "trending_items"):
        validate.check_popular(name, arrays[name], manifest.items)
    empty = msgspec.structs.replace(manifest, sessions=0, categories=0)
    arrays = _empty_arrays(empty) | arrays
    return _snapshot(Path(path), empty, built_at_ms, arrays, items=table, ranker=NO_RANKER, popular_only=True)


def _snapshot(  # noqa: PLR0913
    path: Path,
    manifest: Manifest,
    built_at_ms: int,
    arrays: dict[str, Array],
    *,
    items: ItemTable,
    categories: Sequence[str] = (),
    words: Sequence[str] = (),
    ranker: Ranker,
    index: VerifiedFile | None = None,
    popular_only: bool = False,
) -> ModelSnapshot:
    named = {one.name for one in fields(ModelSnapshot)}
    served = {name: array for name, array in arrays.items() if name in named}
    return ModelSnapshot(
        path=path,
        version=manifest.model_version,
        manifest=manifest,
        built_at_ms=built_at_ms,
        items=items,
        category_names=list(categories),
        ranker=ranker,
        words=WordTable(list(words), arrays["word_vectors"], arrays["word_rarity"]),
        index_path=None if index is None else path / INDEX_FILE,
        popular_only=popular_only,
        arrays=arrays,
        _categories={name: number for number, name in enumerate(categories)},
        _index=index,
        **served,
    )


def read_manifest(path: Path | str) -> Manifest:
    """Of a model directory of which nothing else is read. Raises ModelError."""
    with ModelDirectory(path) as directory:
        return _read_manifest(directory)[0]


def _read_manifest(directory: ModelDirectory) -> tuple[Manifest, int]:
    manifest_bytes = directory.read_small(MANIFEST_FILE, _MANIFEST_BYTES_MAX)
    seal_bytes = directory.read_small(SEAL_FILE, _SEAL_BYTES_MAX)
    manifest, seal = decode(manifest_bytes, seal_bytes)
    wanted = {layout.file_name(name) for name, spec in ARRAYS.items() if not spec.optional} | set(layout.BLOB_FILES)
    may_be = {layout.file_name(name) for name, spec in ARRAYS.items() if spec.optional} | {INDEX_FILE}
    listed = set(manifest.files) - may_be
    for name in sorted(wanted ^ listed):
        raise ModelError(MANIFEST_FILE, f"{'does not list' if name in wanted else 'lists an unknown file'} {name}")
    return manifest, seal.built_at_ms


def _read_array(directory: ModelDirectory, manifest: Manifest, name: str) -> Array:
    file = layout.file_name(name)
    if ARRAYS[name].optional and file not in manifest.files:
        return layout.absent(name)
    return layout.decode_array(name, directory.read(file, manifest.files[file]), layout.counts(manifest))


def _readable_groups(directory: ModelDirectory, manifest: Manifest) -> Array:
    """Of a damaged model: without them a page may show variants side by side, which is better than no page."""
    try:
        groups = _read_array(directory, manifest, "item_groups")
        validate.check_groups(groups, manifest.items)
    except ModelError:
        return layout.absent("item_groups")
    return groups


def _verified_index(directory: ModelDirectory, manifest: Manifest, allow_missing: bool) -> VerifiedFile | None:
    entry = manifest.files.get(INDEX_FILE)
    if entry is None or not directory.exists(INDEX_FILE):
        if allow_missing:
            return None
        raise ModelError(INDEX_FILE, "missing")
    return directory.verified(INDEX_FILE, entry)


def _item_table(arrays: dict[str, Array], ids: memoryview, items: memoryview | None) -> ItemTable:
    validate.check_offsets("item_id_offsets", arrays["item_id_offsets"], len(ids))
    names = item_table.decode_ids(ids, arrays["item_id_offsets"])
    if items is None:
        return ItemTable(names, None, None)
    validate.check_offsets("item_offsets", arrays["item_offsets"], len(items))
    return ItemTable(names, items, arrays["item_offsets"])


def _decode_json(file: str, data: memoryview, kind: Any) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(file, f"cannot be decoded: {error}") from error


def _empty_arrays(manifest: Manifest) -> dict[str, Array]:
    known = layout.counts(manifest)
    arrays = {}
    for name, spec in ARRAYS.items():
        arrays[name] = np.zeros([known.get(letter, 0) for letter in spec.shape], spec.dtype)
        arrays[name].flags.writeable = False
    return arrays
