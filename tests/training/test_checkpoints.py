from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recserv.training.build import build
from recserv.training.checkpoints import Checkpoints, fingerprint, random_state, restore_random_state
from recserv.training.options import BuildOptions
from tests.factories import tiny_log, write_event_file

EPOCHS = 2.0


Whole = tuple[list[tuple[str, int]], dict[str, bytes]]


class Interrupted(Exception):
    """Stands for a signal, or for the power going out."""


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_event_file(tmp_path_factory.mktemp("events") / "events.parquet", tiny_log(40, 1200)))


@pytest.fixture(scope="module")
def whole(events: str, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The stages of a build that was never interrupted, and the model's files."""
    model = tmp_path_factory.mktemp("whole") / "model"
    return stages(options(events, model)), content(model)


def options(events: str, out: Path, **given: object) -> BuildOptions:
    return BuildOptions(events=(events,), out=str(out), dimensions=8, epochs=EPOCHS, rank_examples=300, **given)  # type: ignore[arg-type]


def stages(build_options: BuildOptions, stop_at: str = "", stop_done: int = 0) -> list[tuple[str, int]]:
    """The stages that a build reports; it is interrupted at one of them if told so."""
    seen = []

    def progress(stage: str, done: int, _total: int) -> None:
        seen.append((stage.partition(":")[0] if stage.startswith(("item", "ranker")) else stage, done))
        if stop_at and stage.startswith(stop_at) and done >= stop_done:
            raise Interrupted

    if stop_at:
        with pytest.raises(Interrupted):
            build(build_options, progress)
    else:
        build(build_options, progress)
    return seen


def content(model: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in model.iterdir() if path.name != "seal.json"}


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("stop_at", "stop_done", "not_again"),
    [
        ("older sessions: item vectors", 200, "older sessions: item vectors"),
        ("item vectors", 200, "ranker"),
        ("content vectors", 0, "item vectors"),
        ("writing the model", 0, "item vectors"),
    ],
)
def test_an_interrupted_build_goes_on_and_ends_in_the_same_bytes(
    tmp_path: Path, events: str, whole: Whole, stop_at: str, stop_done: int, not_again: str
) -> None:
    stages(options(events, tmp_path / "model"), stop_at, stop_done)
    assert not (tmp_path / "model").exists()
    resumed = stages(options(events, tmp_path / "model"))
    first = [done for stage, done in whole[0] if stage.startswith(not_again)]
    again = [done for stage, done in resumed if stage.startswith(not_again)]
    assert len(again) < len(first)
    assert content(tmp_path / "model") == whole[1]
    assert hidden(tmp_path) == []


def test_another_seed_begins_anew(tmp_path: Path, events: str) -> None:
    stages(options(events, tmp_path / "model"), "content vectors")
    resumed = stages(options(events, tmp_path / "model", seed=1))
    assert ("item vectors", 100) in resumed
    assert hidden(tmp_path) == []


def test_a_truncated_checkpoint_is_ignored_and_the_stage_learned_again(
    tmp_path: Path, events: str, whole: Whole
) -> None:
    stages(options(events, tmp_path / "model"), "content vectors")
    for path in (tmp_path / ".model.unfinished").iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    resumed = stages(options(events, tmp_path / "model"))
    assert ("item vectors", 100) in resumed
    assert content(tmp_path / "model") == whole[1]


def test_a_checkpoint_gives_back_what_was_saved_last(tmp_path: Path) -> None:
    checkpoint = Checkpoints.beside(tmp_path / "model", "b").stage("vectors")
    assert checkpoint.load() is None
    checkpoint.save({"step": np.array(1)})
    checkpoint.save({"step": np.array(2), "values": np.ones(3)})
    stored = checkpoint.load()
    assert stored is not None
    assert (int(stored["step"]), stored["values"].tolist()) == (2, [1, 1, 1])
    assert Checkpoints.beside(tmp_path / "model", "c").stage("vectors").load() is None


def test_a_generator_goes_on_where_its_state_was_taken() -> None:
    rng, other = np.random.default_rng(1), np.random.default_rng(2)
    rng.integers(0, 7, 3, np.int32)
    restore_random_state(other, random_state(rng))
    assert other.integers(0, 1 << 20, 5).tolist() == rng.integers(0, 1 << 20, 5).tolist()


def test_the_fingerprint_depends_on_where_each_part_ends() -> None:
    assert fingerprint((b"ab", b"c")) != fingerprint((b"a", b"bc"))
    assert fingerprint((b"", None)) == fingerprint((None, b""))
    assert fingerprint((np.arange(3, dtype=np.int32),)) != fingerprint((np.arange(3, dtype=np.int64),))
