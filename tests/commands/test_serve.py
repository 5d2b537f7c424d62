"""`recserv serve` on models and settings that it must refuse: exit code 2, the fault named, nothing started."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from recserv import cli
from tests.model.support import reseal


def truncate(model: Path) -> None:
    path = model / "embeddings.npy"
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(model: Path) -> None:
    data = bytearray((model / "covisitation_items.npy").read_bytes())
    data[-1] ^= 1
    (model / "covisitation_items.npy").write_bytes(data)


def flip_a_bit_of_the_index(model: Path) -> None:
    data = bytearray((model / "index.hnsw").read_bytes())
    data[len(data) // 2] ^= 1
    (model / "index.hnsw").write_bytes(data)


def link(model: Path) -> None:
    real = model.parent / "popularity.npy"
    (model / "popularity.npy").rename(real)
    (model / "popularity.npy").symlink_to(real)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (truncate, "embeddings.npy"),
    "flipped bit": (flip_a_bit, "covisitation_items.npy"),
    "flipped bit in the index": (flip_a_bit_of_the_index, "index.hnsw"),
    "missing": (lambda model: (model / "items.bin").unlink(), "items.bin"),
    "symlink": (link, "popularity.npy"),
    "wrong version": (lambda model: reseal(model, format_version=99), "manifest.json"),
    "wrong metric": (lambda model: reseal(model, metric="cosine"), "manifest.json"),
    "wrong dimension": (lambda model: reseal(model, dimensions=17), "embeddings.npy"),
    "count mismatch": (lambda model: reseal(model, items=199), "item_id_offsets.npy"),
    "no manifest": (lambda model: (model / "manifest.json").unlink(), "manifest.json"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("command", ["serve", "check", "eval"])
def test_a_model_that_is_not_whole_is_exit_code_2_with_the_file_named(
    fault: str, command: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, file = FAULTS[fault]
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    spoil(model)
    sessions = tmp_path / "sessions.tsv"
    sessions.write_text("item-1\titem-2\n")
    arguments = {
        "serve": ["--model", str(model), "--state", f"embedded:{tmp_path / 'state.db'}", "--listen", "127.0.0.1:0"],
        "check": [str(model)],
        "eval": ["--model", str(model), "--sessions", str(sessions)],
    }
    assert cli.main([command, *arguments[command]]) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith(f"recserv {command}: ")
    assert str(model) in complaint
    assert file in complaint
    assert not (tmp_path / "state.db").exists()


def test_every_kind_of_bad_setting_is_told_at_once_and_is_exit_code_2(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "recserv.toml"
    config.write_text(
        'max_flight = 5\nid_retention_hours = nan\ndrain_ms = -1\nlog_salt = "env:NO_SUCH_SECRET"\nworkers = 0\n'
    )
    assert cli.main(["serve", "--model", str(tiny_model), "--config", str(config), "--max-streams", "many"]) == 2
    lines = capsys.readouterr().err.splitlines()
    wanted = ["max_flight", "id_retention_hours", "drain_ms", "NO_SUCH_SECRET", "workers", "--max-streams"]
    assert [name for name in wanted if not any(name in line for line in lines)] == []
    assert len(lines) == len(wanted)
    assert all(line.startswith("recserv serve: ") for line in lines)


def test_a_minimum_above_its_maximum_is_told_beside_the_rest(
    tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    retention = ["--id-retention-hours", "48", "--log-retention-hours", "24", "--drain-ms", "x"]
    assert cli.main(["serve", "--model", str(tiny_model), *retention]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert any("log_retention_hours (24) is below id_retention_hours (48)" in line for line in lines)
