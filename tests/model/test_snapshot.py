from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recserv.errors import ModelError, UsageError
from recserv.model import files
from recserv.model.layout import ARRAYS, encode_array
from recserv.model.snapshot import ModelSnapshot, load_popular, load_snapshot
from recserv.model.writer import save_snapshot
from recserv.training.assemble import assemble
from recserv.training.options import BuildOptions
from recserv.training.ranker import PLAIN_RANKER
from tests.factories import START_MS, build_tiny_model, tiny_catalog, tiny_log
from tests.model.support import copy_model, read_array, reseal, write_array


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return copy_model(tiny_model, tmp_path / "model")


@pytest.fixture(scope="module")
def snapshot(tiny_model: Path) -> ModelSnapshot:
    return load_snapshot(tiny_model)


def test_a_loaded_model_knows_its_items_both_ways(snapshot: ModelSnapshot) -> None:
    assert snapshot.item_count == len(snapshot.items) == 200
    assert all(snapshot.items.row(item_id) == place for place, item_id in enumerate(snapshot.items.ids))
    assert snapshot.items.row("never seen") == -1
    item_row = snapshot.items.row("item-7")
    item = snapshot.items.get(item_row)
    assert item.item_id == snapshot.items.id(item_row) == "item-7"
    assert snapshot.items.title(item_row) == item.title != ""
    assert item.price > 0


def test_categories_are_found_by_name_and_listed_from_general_to_specific(snapshot: ModelSnapshot) -> None:
    toys = snapshot.category_number("Toys")
    assert snapshot.category_names[toys] == "Toys"
    assert snapshot.category_number("Submarines") == -1
    item_row = snapshot.items.row("item-2")
    first, last = snapshot.item_category_offsets[item_row : item_row + 2]
    names = [snapshot.category_names[c] for c in snapshot.item_categories[first:last]]
    assert names == list(snapshot.items.get(item_row).categories)


def test_arrays_have_the_documented_types_and_cannot_be_written(snapshot: ModelSnapshot) -> None:
    assert list(snapshot.arrays) == list(ARRAYS)
    for name, spec in ARRAYS.items():
        array = snapshot.arrays[name]
        assert getattr(snapshot, name, array) is array
        assert array.dtype == spec.dtype
        assert array.flags.c_contiguous
        assert not array.flags.writeable


def test_items_without_events_have_vectors_from_their_content(snapshot: ModelSnapshot) -> None:
    cold = [item_row for item_row, count in enumerate(snapshot.popularity) if count == 0]
    assert len(cold) >= 20
    assert (snapshot.embedding_origin[cold] == 2).all()


def test_the_index_is_read_through_a_verified_private_copy(snapshot: ModelSnapshot) -> None:
    with snapshot.verified_index() as path:
        assert path.read_bytes() == (snapshot.path / "index.hnsw").read_bytes()


@pytest.mark.parametrize("after", ["swapped", "overwritten", "gone"])
def test_the_index_that_was_verified_is_the_one_that_is_loaded(model: Path, after: str) -> None:
    verified = (model / "index.hnsw").read_bytes()
    snapshot = load_snapshot(model)
    if after == "swapped":
        model.rename(model.parent / "before")
        build_tiny_model(model, seed=1)
    elif after == "overwritten":
        (model / "index.hnsw").write_bytes(b"of another build")
    else:
        (model / "index.hnsw").unlink()
    with snapshot.verified_index() as path:
        assert path.read_bytes() == verified


def test_the_copy_of_the_index_goes_once_it_was_opened_and_with_the_model(model: Path) -> None:
    opened, unopened = load_snapshot(model), load_snapshot(model)
    with opened.verified_index() as path:
        pass
    assert not path.exists()
    with opened.verified_index() as again:
        assert again.read_bytes() == (model / "index.hnsw").read_bytes()
    copy = unopened._index.path
    assert copy.exists()
    del unopened
    gc.collect()
    assert not copy.exists()


def test_a_missing_index_is_allowed_unless_asked_otherwise(model: Path) -> None:
    (model / "index.hnsw").unlink()
    snapshot = load_snapshot(model)
    assert snapshot.index_path is None
    with pytest.raises(ModelError, match=r"index\.hnsw: missing"), snapshot.verified_index():
        pass
    with pytest.raises(ModelError, match=r"index\.hnsw: missing"):
        load_snapshot(model, allow_missing_index=False)


def test_a_spoilt_index_is_refused(model: Path) -> None:
    flip(model / "index.hnsw", 1000, 3)
    with pytest.raises(ModelError, match=r"index\.hnsw: its SHA-256"):
        load_snapshot(model)


def test_the_same_data_and_seed_give_the_same_bytes(tiny_model: Path, tmp_path: Path) -> None:
    again = build_tiny_model(tmp_path / "again")
    for path in sorted(tiny_model.iterdir()):
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name
    other = build_tiny_model(tmp_path / "other", seed=1)
    assert load_snapshot(other).version != load_snapshot(again).version


def test_the_time_of_the_build_is_in_the_seal_alone(tiny_model: Path, tmp_path: Path) -> None:
    options = BuildOptions(events=("made up",), out="", dimensions=16, epochs=1.0)
    contents, _ = assemble(tiny_log(200, 400), tiny_catalog(200), options)
    save_snapshot(contents.ranked_by(PLAIN_RANKER), tmp_path / "later", now_ms=START_MS + 1)
    different = [p.name for p in tiny_model.iterdir() if p.read_bytes() != (tmp_path / "later" / p.name).read_bytes()]
    assert different == ["seal.json"]
    assert load_snapshot(tmp_path / "later").built_at_ms == START_MS + 1


def flip(path: Path, byte: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[byte] ^= 1 << bit
    path.write_bytes(data)


def assert_every_spoilt_file_is_named(model: Path, name: str, spoil: Callable[[bytes], bytes]) -> None:
    """The file named is the spoilt one, or the one that vouches for it."""
    path = model / name
    original = path.read_bytes()
    path.write_bytes(spoil(original))
    try:
        with pytest.raises(ModelError) as caught:
            load_snapshot(model)
        assert caught.value.file == name or {caught.value.file, name} <= {"manifest.json", "seal.json"}
    finally:
        path.write_bytes(original)


def flipped(place: int) -> Callable[[bytes], bytes]:
    def spoil(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[place // 8] ^= 1 << (place % 8)
        return bytes(changed)

    return spoil


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Quicker to load; whoever spoils it repairs it."""
    return build_tiny_model(tmp_path_factory.mktemp("small") / "model", items=40, sessions=60, dimensions=8)


def test_every_file_truncated_anywhere_is_refused_and_named(small_model: Path) -> None:
    for path in sorted(small_model.iterdir()):
        size = path.stat().st_size
        for length in sorted({0, 1, 7, size // 3, size // 2, size - 1} - {size}):
            if length < size:
                assert_every_spoilt_file_is_named(small_model, path.name, lambda data, length=length: data[:length])


def test_bytes_behind_the_end_are_refused(small_model: Path) -> None:
    for path in sorted(small_model.iterdir()):
        assert_every_spoilt_file_is_named(small_model, path.name, lambda data: data + b"\n")


def test_five_hundred_flipped_bits_are_refused_and_named(small_model: Path) -> None:
    flip_random_bits(small_model, 500, seed=1)


@pytest.mark.slow
def test_ten_thousand_flipped_bits_are_refused_and_named(small_model: Path) -> None:
    flip_random_bits(small_model, 10_000, seed=2)


@pytest.mark.slow
def test_every_truncation_is_refused_and_named(tmp_path: Path) -> None:
    model = build_tiny_model(tmp_path / "model", items=12, sessions=20, dimensions=4)
    for path in sorted(model.iterdir()):
        for length in range(path.stat().st_size):
            assert_every_spoilt_file_is_named(model, path.name, lambda data, length=length: data[:length])


def flip_random_bits(model: Path, count: int, seed: int) -> None:
    """Files get flips by their size, every file some."""
    rng = np.random.default_rng(seed)
    paths = sorted(model.iterdir())
    sizes = np.array([path.stat().st_size for path in paths], float)
    share = 0.5 * sizes / sizes.sum() + 0.5 / len(paths)
    for chosen in rng.choice(len(paths), count, p=share):
        place = int(rng.integers(8 * int(sizes[chosen])))
        assert_every_spoilt_file_is_named(model, paths[chosen].name, flipped(place))


def test_a_symbolic_link_is_refused_even_to_the_right_content(model: Path, tmp_path: Path) -> None:
    for name in ("manifest.json", "embeddings.npy", "index.hnsw"):
        real = tmp_path / name
        (model / name).rename(real)
        (model / name).symlink_to(real)
        with pytest.raises(ModelError, match=f"{name}: a symbolic link"):
            load_snapshot(model)
        (model / name).unlink()
        real.rename(model / name)


def test_a_pipe_in_the_place_of_a_file_is_refused_without_waiting(model: Path) -> None:
    (model / "popularity.npy").unlink()
    os.mkfifo(model / "popularity.npy")
    with pytest.raises(ModelError, match=r"popularity\.npy: not a regular file"):
        load_snapshot(model)


def test_a_missing_file_is_named(model: Path) -> None:
    for path in sorted(model.iterdir()):
        if path.name != "index.hnsw":
            hidden = path.rename(model.parent / "hidden")
            with pytest.raises(ModelError, match=f"{path.name}: missing"):
                load_snapshot(model)
            hidden.rename(path)


def test_a_file_that_changes_while_it_is_read_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = files._copy

    def copy_then_touch(fd: int, name: str, size: int) -> memoryview:
        data = copy(fd, name, size)
        if name == "embeddings.npy":
            os.utime(model / name, ns=(1, 1))
        return data

    monkeypatch.setattr(files, "_copy", copy_then_touch)
    with pytest.raises(ModelError, match=r"embeddings\.npy: changed while it was read"):
        load_snapshot(model)


def test_a_loaded_model_does_not_notice_that_its_files_shrink(model: Path) -> None:
    snapshot = load_snapshot(model)
    before = snapshot.embeddings.copy()
    for path in model.iterdir():
        os.truncate(path, 0)
    assert (snapshot.embeddings == before).all()
    assert snapshot.items.get(0).title


def test_no_directory_and_no_model_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such directory"):
        load_snapshot(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"manifest\.json: missing"):
        load_snapshot(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="not a readable directory"):
        load_snapshot(tmp_path / "file")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"format_version": 1}, "format version 1"),
        ({"metric": "cosine"}, "metric 'cosine'"),
        ({"dimensions": 0}, "dimensions 0"),
        ({"dimensions": 5000}, "dimensions 5000"),
        ({"items": 0}, "items 0"),
        ({"sessions": -1}, "sessions -1"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(model: Path, changes: dict[str, object], problem: str) -> None:
    reseal(model, **changes)
    with pytest.raises(ModelError, match=rf"manifest\.json: {problem}"):
        load_snapshot(model)


@pytest.mark.parametrize(
    ("changes", "file"),
    [
        ({"dimensions": 17}, "embeddings.npy"),
        ({"items": 199}, "item_id_offsets.npy"),
        ({"sessions": 1}, "knn_session_offsets.npy"),
        ({"categories": 1}, "category_popular_offsets.npy"),
    ],
)
def test_counts_that_do_not_fit_the_arrays_are_refused(model: Path, changes: dict[str, object], file: str) -> None:
    reseal(model, **changes)
    with pytest.raises(ModelError) as caught:
        load_snapshot(model)
    assert caught.value.file == file


SPOILT = {
    "a falling offset": ("covisitation_offsets", lambda a: a[[0, 2, 1, *range(3, len(a))]]),
    "an offset that does not begin at 0": ("item_category_offsets", lambda a: a + (np.arange(len(a)) == 0)),
    "a neighbour that does not exist": ("covisitation_items", lambda a: np.full_like(a, 200)),
    "a negative item row": ("knn_session_items", lambda a: np.full_like(a, -1)),
    "a session that does not exist": ("knn_item_sessions", lambda a: a + 10_000),
    "a weight that is not finite": ("covisitation_weights", lambda a: np.full_like(a, np.inf)),
    "a weight of zero": ("covisitation_weights", np.zeros_like),
    "weights that rise": ("covisitation_weights", lambda a: np.arange(1, len(a) + 1, dtype=np.float32)),
    "too few weights": ("covisitation_weights", lambda a: a[:-1]),
    "a vector that is not finite": ("embeddings", lambda a: np.full_like(a, np.nan)),
    "a vector that is not of unit length": ("embeddings", lambda a: a * np.float32(1.1)),
    "a near item that is none": ("nearest_items", lambda a: np.where(a == a.max(), len(a), a).astype(np.int32)),
    "a near item below": ("nearest_items", lambda a: a - np.int32(2)),
    "too many near items": ("nearest_items", lambda a: np.zeros((len(a), 1025), np.int32)),
    "a popular item twice": ("popular_items", lambda a: np.concatenate([a, a[:1]])),
    "a negative popularity": ("popularity", lambda a: -a - 1),
    "an unknown origin": ("embedding_origin", lambda a: a + np.uint8(3)),
    "an availability that is no truth value": ("available", lambda a: a + np.uint8(2)),
    "numbers of another type": ("popularity", lambda a: a.astype(np.float64)),
    "big-endian numbers": ("knn_item_idf", lambda a: a.astype(">f4")),
    "another shape": ("popularity", lambda a: a[:, None]),
    "objects": ("popularity_recent", lambda a: a.astype("S4")),
}


@pytest.mark.parametrize("case", SPOILT)
def test_whole_files_with_wrong_content_are_refused(model: Path, case: str) -> None:
    name, spoil = SPOILT[case]
    write_array(model, name, spoil(read_array(model, name)))
    with pytest.raises(ModelError) as caught:
        load_snapshot(model)
    assert caught.value.file in (f"{name}.npy", f"{name.replace('_weights', '_items')}.npy")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ranker.json", b'{"kind":"neural","names":[],"weights":[]}'),
        ("ranker.json", b'{"kind":"linear","names":["a"],"weights":[]}'),
        ("ranker.json", b"\xff\xfe"),
        ("categories.json", b'["a","a"]'),
        ("categories.json", b"[" * 100_000),
        ("items.bin", b"\xc1"),
        ("popularity.npy", b"\x93NUMPY\x01\x00v\x00" + b"(" * 118),
        ("popularity.npy", b"not an array"),
    ],
)
def test_whole_files_that_cannot_be_decoded_are_refused(model: Path, name: str, content: bytes) -> None:
    path = model / name
    path.write_bytes(content * path.stat().st_size if name == "items.bin" else content)
    reseal(model)
    with pytest.raises(ModelError):
        load_snapshot(model)


def test_popular_items_are_served_from_a_model_that_is_damaged_elsewhere(model: Path) -> None:
    whole = load_snapshot(model)
    for name in ("embeddings.npy", "items.bin", "index.hnsw", "covisitation_items.npy", "ranker.json"):
        flip(model / name, 200 if name != "ranker.json" else 3, 1)
    popular = load_popular(model)
    assert popular.popular_only
    assert popular.version == whole.version
    assert popular.items.ids == whole.items.ids
    assert (popular.popular_items == whole.popular_items).all()
    assert popular.items.get(3).item_id == whole.items.id(3)
    assert not popular.embeddings.any()
    assert len(popular.covisitation_items) == 0


def test_popular_items_are_refused_where_they_are_damaged_themselves(model: Path) -> None:
    flip(model / "popular_items.npy", 140, 1)
    with pytest.raises(ModelError, match=r"popular_items\.npy"):
        load_popular(model)


def test_a_new_model_takes_the_place_of_the_old_one(model: Path) -> None:
    before = load_snapshot(model)
    build_tiny_model(model, seed=5)
    after = load_snapshot(model)
    assert after.version != before.version
    assert before.items.get(0).title
    assert [path.name for path in model.parent.iterdir()] == ["model"]


def test_a_failed_write_leaves_the_old_model_and_nothing_else(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = load_snapshot(model).version

    def no_space(_data: bytes, _built_at_ms: int) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("recserv.model.writer.encode_seal", no_space)
    with pytest.raises(UsageError, match="No space left on device"):
        build_tiny_model(model, seed=5)
    assert load_snapshot(model).version == version
    assert [path.name for path in model.parent.iterdir()] == ["model"]


def test_a_directory_that_is_no_model_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    with pytest.raises(UsageError, match="something other than a model"):
        build_tiny_model(tmp_path)
    with pytest.raises(UsageError, match="not a directory"):
        build_tiny_model(tmp_path / "precious")
    assert (tmp_path / "precious").read_text() == "data"


def test_an_array_is_written_as_numpy_reads_it(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    (tmp_path / "a.npy").write_bytes(encode_array(array))
    assert (np.load(tmp_path / "a.npy", allow_pickle=False) == array).all()


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("search_words", lambda keys: keys[::-1].copy(), "does not ascend"),
        ("search_word_offsets", lambda offsets: offsets[:-1].copy(), "offsets for"),
        ("search_word_offsets", lambda offsets: offsets + 1, "must run from 0"),
        ("search_word_items", lambda items: items + 10**6, "points outside"),
        ("search_word_items", np.zeros_like, "does not ascend within a word"),
    ],
)
def test_lists_of_words_that_do_not_fit_are_refused(model: Path, name: str, change: Any, problem: str) -> None:
    write_array(model, name, change(read_array(model, name)))
    with pytest.raises(ModelError, match=rf"{name}\.npy: .*{problem}"):
        load_snapshot(model)


def test_a_model_of_an_older_format_is_refused_with_what_to_do(model: Path) -> None:
    reseal(model, format_version=3)
    with pytest.raises(ModelError, match=r"manifest\.json: format version 3; .*build the model again"):
        load_snapshot(model)
