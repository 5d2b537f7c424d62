"""`build --holdout`: keeps the newest sessions from the model, and asks for their next items afterwards.

    EventLog -> older (the model is built from it) | newer -> questions -> FILE.tsv (what `recserv eval` takes)
                                                                        -> FILE.tsv.json: from which data it is

A session in order is asked after each of its items for the next one. A basket without an order has no next item: some
of its items, drawn at random, are each left out in turn and asked for, the others being the context in random order.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np

from recserv.errors import DatasetError, UsageError
from recserv.model.data_report import HoldoutReport
from recserv.training.dataset import EventLog
from recserv.training.holdout import rows_of
from recserv.training.sessions import Sessions, build_sessions, session_ends

SESSION_QUESTIONS_MAX = 30
BASKET_QUESTIONS_MAX = 5
_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_BLANK = re.compile(r"\s")


class Newest(msgspec.Struct, frozen=True):
    """Which sessions: the newest `share` of them, or those that ended at `from_ms` or later."""

    text: str
    share: float = 0.0
    from_ms: int | None = None


@dataclass(frozen=True)
class SetAside:
    """`content`: the bytes of the file; `path` where they go."""

    path: Path
    content: bytes
    report: HoldoutReport

    def write(self) -> None:
        """Both files. Raises UsageError."""
        try:
            self.path.write_bytes(self.content)
            sidecar_of(self.path).write_bytes(msgspec.json.format(msgspec.json.encode(self.report), indent=2) + b"\n")
        except OSError as error:
            raise UsageError(f"--holdout: {self.path}: {error.strerror or error}") from error


def sidecar_of(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def parse_newest(text: str) -> Newest:
    """`5%` or a day such as 2010-11-25. Raises UsageError."""
    share = _SHARE.fullmatch(text.strip())
    if share is not None:
        value = float(share[1]) / 100
        if not 0 < value <= 0.5:
            raise UsageError(f"--holdout {text}: must be above 0 % and at most 50 %")
        return Newest(text.strip(), share=value)
    try:
        day = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(f"--holdout {text}: a share of the sessions such as 5%, or a day such as 2024-11-25") from None
    day = day if day.tzinfo else day.replace(tzinfo=UTC)
    return Newest(text.strip(), from_ms=int(day.timestamp() * 1000))


def split_newest(log: EventLog, newest: Newest, path: str) -> tuple[EventLog, EventLog]:
    """(older, newer), whole sessions. Raises DatasetError, which names `path`, where one of the two would be empty."""
    ends = session_ends(log)
    if newest.from_ms is not None:
        if log.time_ms is None:
            raise DatasetError(path, f"--holdout {newest.text} needs event times; without any, 5% goes by the rows")
        newer = ends >= newest.from_ms
    else:
        count = round(newest.share * int(np.count_nonzero(ends >= 0)))
        newer = np.zeros(log.session_count, bool)
        newer[np.argsort(ends, kind="stable")[log.session_count - count :]] = True
    held = newer[log.session]
    if held.all() or not held.any():
        which = "all sessions" if held.any() else "no session"
        raise DatasetError(path, f"--holdout {newest.text} would hold out {which}{_ended(log)}")
    return rows_of(log, ~held), rows_of(log, held)


def _ended(log: EventLog) -> str:
    if log.time_ms is None:
        return ""
    first, last = (
        datetime.fromtimestamp(int(at) / 1000, UTC).date().isoformat() for at in (log.time_ms.min(), log.time_ms.max())
    )
    return f"; the events are from {first} to {last}"


def set_aside(newer: EventLog, newest: Newest, path: Path, files: tuple[str, ...], seed: int) -> SetAside:
    """`files`: those that the events are from. Raises DatasetError if nothing can be asked."""
    newer, lost = _askable(newer)
    sessions = build_sessions(newer, np.arange(len(newer.item_ids), dtype=np.int32), seed=seed)
    lines, asked = _lines(sessions, newer.item_ids, seed)
    if not lines:
        raise DatasetError(
            files[0], f"--holdout {newest.text}: none of its sessions has two different items to ask about"
        )
    content = "".join(lines).encode()
    if path.suffix == ".gz":
        content = gzip.compress(content, mtime=0)
    ends = session_ends(newer)
    timed = newer.time_ms is not None
    report = HoldoutReport(
        chosen=newest.text,
        file=path.name,
        sha256=hashlib.sha256(content).hexdigest(),
        events=tuple(Path(name).name for name in files),
        sessions=newer.session_count,
        sessions_asked=asked,
        sessions_without_order=int(np.count_nonzero(sessions.unordered)),
        questions=len(lines),
        first_end_ms=int(ends.min()) if timed else None,
        last_end_ms=int(ends.max()) if timed else None,
        rows_with_blanks=lost,
    )
    return SetAside(path, content, report)


def _askable(log: EventLog) -> tuple[EventLog, int]:
    """Without items whose ids hold blanks, which are between the ids of a line; how many rows that were."""
    blank = np.array([_BLANK.search(item) is not None for item in log.item_ids], bool)
    lost = (log.item >= 0) & np.append(blank, False)[log.item]
    count = int(lost.sum())
    return (log, 0) if not count else (replace(log, item=np.where(lost, -1, log.item).astype(np.int32)), count)


def _lines(sessions: Sessions, ids: list[str], seed: int) -> tuple[list[str], int]:
    """Lines of the file, session after session from the oldest, and how many sessions they are from."""
    rng = np.random.default_rng(seed)
    lines: list[str] = []
    asked = 0
    for begin, end, loose in zip(sessions.offsets, sessions.offsets[1:], sessions.unordered, strict=False):
        items = [ids[code] for code in sessions.items[begin:end].tolist()]
        if loose:
            items = list(dict.fromkeys(items))
        if len(items) < 2:
            continue
        asked += 1
        places = np.arange(0 if loose else 1, len(items))
        limit = BASKET_QUESTIONS_MAX if loose else SESSION_QUESTIONS_MAX
        if len(places) > limit:
            places = np.sort(rng.choice(places, limit, replace=False))
        for place in places.tolist():
            context = items[:place] + items[place + 1 :] if loose else items[:place]
            lines.append(f"{' '.join(context)}\t{items[place]}\n")
    return lines, asked
