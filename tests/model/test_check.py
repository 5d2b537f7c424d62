from __future__ import annotations

from pathlib import Path

import msgspec

from recserv.model.check import describe
from recserv.model.manifest import encode_manifest
from tests.factories import START_MS
from tests.model.support import copy_model, read_manifest, reseal


def test_a_whole_model_is_described(tiny_model: Path) -> None:
    report = describe(tiny_model, now_ms=START_MS + 5000)
    assert report.whole
    assert report.problem == ""
    assert report.items == 200
    assert report.items_available == 196
    assert report.items_from_behaviour + report.items_from_content == 200
    assert report.age_s == 5
    assert report.behaviour == "viewed"
    assert report.has_index
    assert report.training.sessions == 400
    assert {file.name for file in report.files} == {path.name for path in tiny_model.iterdir()}
    assert report.size_bytes == sum(path.stat().st_size for path in tiny_model.iterdir())


def test_a_damaged_model_is_described_with_the_file_and_the_problem(tiny_model: Path, tmp_path: Path) -> None:
    model = copy_model(tiny_model, tmp_path / "model")
    (model / "embeddings.npy").write_bytes(b"short")
    report = describe(model)
    assert not report.whole
    assert report.problem_file == "embeddings.npy"
    assert "5 bytes" in report.problem
    assert report.files


def test_a_model_that_is_not_there_is_described_as_such(tmp_path: Path) -> None:
    report = describe(tmp_path / "nowhere")
    assert not report.whole
    assert "no such directory" in report.problem
    assert report.files == ()


def test_a_model_whose_index_file_is_missing_is_not_whole(tiny_model: Path, tmp_path: Path) -> None:
    model = copy_model(tiny_model, tmp_path / "model")
    (model / "index.hnsw").unlink()
    report = describe(model)
    assert not report.whole
    assert report.problem_file == "index.hnsw"
    assert report.problem.startswith("missing")


def test_a_model_that_was_written_without_an_index_is_whole_and_says_that_it_has_none(
    tiny_model: Path, tmp_path: Path
) -> None:
    model = copy_model(tiny_model, tmp_path / "model")
    (model / "index.hnsw").unlink()
    files = {name: entry for name, entry in read_manifest(model).files.items() if name != "index.hnsw"}
    _, data = encode_manifest(msgspec.structs.replace(read_manifest(model), files=files))
    (model / "manifest.json").write_bytes(data)
    reseal(model)
    report = describe(model)
    assert (report.whole, report.has_index) == (True, False)
