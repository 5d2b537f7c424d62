"""Whether a model knows the sessions that it is asked about: by what the file says, or by what the model holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from recserv.evaluation.questions import Line, Questions, session_numbers
from recserv.evaluation.seen import seen_by
from recserv.model.data_report import DataReport, HoldoutReport
from recserv.model.snapshot import ModelSnapshot, load_snapshot
from recserv.model.writer import save_snapshot
from recserv.training.assemble import assemble
from recserv.training.dataset import EventLog
from recserv.training.options import BuildOptions
from recserv.training.ranker import PLAIN_RANKER
from recserv.types import EventType

ITEMS, LENGTH = 80, 6


def sessions_of(seed: int, count: int = 200) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(ITEMS)[:LENGTH] for _ in range(count)])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelSnapshot:
    path = tmp_path_factory.mktemp("seen") / "model"
    items = sessions_of(0)
    log = EventLog(
        item_ids=[f"i{code}" for code in range(ITEMS)],
        session_count=len(items),
        session=np.repeat(np.arange(len(items), dtype=np.int32), LENGTH),
        item=items.ravel().astype(np.int32),
        event_type=np.full(items.size, EventType.VIEW, np.uint8),
        time_ms=np.arange(items.size, dtype=np.int64) * 1000,
    )
    options = BuildOptions(events=("made up",), out=str(path), dimensions=4, epochs=0.0)
    contents, _ = assemble(log, None, options)
    save_snapshot(contents.ranked_by(PLAIN_RANKER), path, durable=False)
    return load_snapshot(path)


def asked(items: np.ndarray, said: HoldoutReport | None = None) -> Questions:
    """Every prefix."""
    lines: list[Line] = [
        ([f"i{code}" for code in row[:end]], f"i{row[end]}") for row in items.tolist() for end in range(1, LENGTH)
    ]
    return Questions(Path("q.tsv"), lines, session_numbers(lines), said)


def held(first_end_ms: int | None) -> HoldoutReport:
    return HoldoutReport(
        chosen="5%",
        file="q.tsv",
        sha256="0" * 64,
        events=("e.csv",),
        sessions=1,
        sessions_asked=1,
        sessions_without_order=0,
        questions=1,
        first_end_ms=first_end_ms,
        last_end_ms=first_end_ms,
    )


def test_sessions_that_the_model_was_built_from_are_recognised_without_any_note(model: ModelSnapshot) -> None:
    seen = seen_by(model, asked(sessions_of(0)))
    assert (seen.verdict, seen.warns) == ("seen", True)
    assert seen.inside == seen.looked_at > 100
    assert "recserv build --holdout" in seen.text


def test_so_are_they_in_another_order_and_with_an_item_left_out(model: ModelSnapshot) -> None:
    rng = np.random.default_rng(1)
    assert seen_by(model, asked(rng.permuted(sessions_of(0), axis=1))).verdict == "seen"


def test_sessions_that_are_new_are_not_taken_for_known(model: ModelSnapshot) -> None:
    seen = seen_by(model, asked(sessions_of(1)))
    assert (seen.verdict, seen.inside, seen.warns) == ("unseen", 0, False)


def test_half_of_them_known_is_enough_for_a_warning(model: ModelSnapshot) -> None:
    assert seen_by(model, asked(np.concatenate([sessions_of(0, 50), sessions_of(1, 50)]))).warns


def test_lines_of_two_items_give_the_verdict_unknown(model: ModelSnapshot) -> None:
    lines: list[Line] = [([f"i{row[0]}"], f"i{row[1]}") for row in sessions_of(0)]
    questions = replace(asked(sessions_of(0)), lines=lines, session=session_numbers(lines))
    assert seen_by(model, questions).verdict == "unknown"


@pytest.mark.parametrize(("first_end_ms", "verdict"), [(10**9, "later"), (1000, "seen")])
def test_sessions_are_later_or_seen_by_when_the_models_events_end(
    model: ModelSnapshot, first_end_ms: int, verdict: str
) -> None:
    assert seen_by(model, asked(sessions_of(1), held(first_end_ms))).verdict == verdict


def test_the_file_of_the_models_own_build_is_known_by_its_digest(model: ModelSnapshot) -> None:
    data = DataReport(holdout=held(1000))
    own = replace(model, manifest=msgspec.structs.replace(model.manifest, data=data))
    assert seen_by(own, asked(sessions_of(1), held(1000))).verdict == "kept"
