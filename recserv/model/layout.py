"""The arrays of the model format, one table for the writer and the loader."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from recserv.errors import ModelError
from recserv.model.manifest import Manifest

Array = npt.NDArray[Any]

POPULAR_ITEMS_MAX = 1000
CATEGORY_POPULAR_MAX = 200
POSITIONS_MAX = 100
NEAREST_MAX = 1024

ITEM_IDS_FILE = "item_ids.bin"
ITEMS_FILE = "items.bin"
CATEGORIES_FILE = "categories.json"
RANKER_FILE = "ranker.json"
WORDS_FILE = "words.json"
BLOB_FILES = (ITEM_IDS_FILE, ITEMS_FILE, CATEGORIES_FILE, RANKER_FILE, WORDS_FILE)


# The header that NumPy writes, read without evaluating any of it.
_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    rb"\{'descr': '(?P<dtype><[fi][48]|\|u1)', 'fortran_order': False, 'shape': \((?P<shape>[0-9, ]{1,60})\), \} *\n"
)


class ArraySpec(NamedTuple):
    """`shape` by the counts of the manifest; "*" is any length. `optional`: a model has its file only if there is
    something in it. `of`: these are offsets into that array. `points`: its numbers are rows 0..that count - 1.
    `not_negative`: so are they, and finite.
    """

    dtype: str
    shape: tuple[str, ...]
    optional: bool = False
    of: str = ""
    points: str = ""
    not_negative: bool = False


ARRAYS: dict[str, ArraySpec] = {
    "item_id_offsets": ArraySpec("int64", ("n+1",)),
    "item_offsets": ArraySpec("int64", ("n+1",)),
    "available": ArraySpec("uint8", ("n",)),
    "item_groups": ArraySpec("int32", ("*",), optional=True),
    "item_category_offsets": ArraySpec("int64", ("n+1",), of="item_categories"),
    "item_categories": ArraySpec("int32", ("*",), points="c"),
    "embeddings": ArraySpec("float32", ("n", "d")),
    "embedding_origin": ArraySpec("uint8", ("n",)),
    "nearest_items": ArraySpec("int32", ("n", "*")),
    "covisitation_offsets": ArraySpec("int64", ("n+1",), of="covisitation_items"),
    "covisitation_items": ArraySpec("int32", ("*",), points="n"),
    "covisitation_weights": ArraySpec("float32", ("*",)),
    "knn_item_offsets": ArraySpec("int64", ("n+1",), of="knn_item_sessions"),
    "knn_item_sessions": ArraySpec("int32", ("*",), points="s"),
    "knn_session_offsets": ArraySpec("int64", ("s+1",), of="knn_session_items"),
    "knn_session_items": ArraySpec("int32", ("*",), points="n"),
    "knn_session_age": ArraySpec("float32", ("s",), not_negative=True),
    "knn_item_idf": ArraySpec("float32", ("n",), not_negative=True),
    "popularity": ArraySpec("float32", ("n",), not_negative=True),
    "popularity_recent": ArraySpec("float32", ("n",), not_negative=True),
    "popular_items": ArraySpec("int32", ("*",)),
    "trending_items": ArraySpec("int32", ("*",)),
    "category_popular_offsets": ArraySpec("int64", ("c+1",), of="category_popular_items"),
    "category_popular_items": ArraySpec("int32", ("*",), points="n"),
    "word_vectors": ArraySpec("float32", ("*", "d")),
    "word_rarity": ArraySpec("float32", ("*",)),
    "search_words": ArraySpec("int64", ("*",)),
    "search_word_offsets": ArraySpec("int64", ("*",)),
    "search_word_items": ArraySpec("int32", ("*",)),
    "item_importance": ArraySpec("float32", ("n",)),
    "position_weights": ArraySpec("float32", ("*",)),
}


def absent(name: str) -> Array:
    """What stands for the file of an optional array that a model does not have."""
    array = np.empty(0, ARRAYS[name].dtype)
    array.flags.writeable = False
    return array


def file_name(array: str) -> str:
    return f"{array}.npy"


def counts(manifest: Manifest) -> dict[str, int]:
    """What the letters of a shape stand for."""
    return {
        "n": manifest.items,
        "n+1": manifest.items + 1,
        "d": manifest.dimensions,
        "s": manifest.sessions,
        "s+1": manifest.sessions + 1,
        "c": manifest.categories,
        "c+1": manifest.categories + 1,
    }


def check_shape(name: str, dtype: np.dtype[Any], shape: tuple[int, ...], known: Mapping[str, int]) -> None:
    """Raises ModelError unless the array is what the table says."""
    spec = ARRAYS[name]
    if dtype != np.dtype(spec.dtype).newbyteorder("<"):
        raise ModelError(file_name(name), f"holds {dtype}; must be {spec.dtype}")
    wanted = tuple(known.get(letter, -1) for letter in spec.shape)
    if len(shape) != len(wanted) or any(w not in (-1, s) for s, w in zip(shape, wanted, strict=True)):
        text = ", ".join("any" if w == -1 else str(w) for w in wanted)
        raise ModelError(file_name(name), f"has shape {shape}; the manifest's counts ask for ({text})")


def encode_array(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def decode_array(name: str, data: memoryview, known: Mapping[str, int]) -> Array:
    """A read-only array over `data`, the content of an .npy file. Raises ModelError."""
    file = file_name(name)
    begin = len(_MAGIC) + 2
    length = int.from_bytes(data[len(_MAGIC) : begin], "little")
    header = _HEADER.fullmatch(bytes(data[begin : begin + length]))
    if bytes(data[: len(_MAGIC)]) != _MAGIC or header is None:
        raise ModelError(file, "does not begin like an .npy file of numbers, version 1.0, stored row by row")
    dtype = np.dtype(header["dtype"].decode())
    shape = tuple(int(digits) for digits in header["shape"].replace(b",", b" ").split())
    check_shape(name, dtype, shape, known)
    size = math.prod(shape) * dtype.itemsize
    body = data[begin + length :]
    if len(body) != size:
        raise ModelError(file, f"holds {len(body)} bytes of numbers; its header says {size}")
    array = np.frombuffer(body, dtype=dtype).reshape(shape)
    array.flags.writeable = False
    return array
