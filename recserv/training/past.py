"""Event files as the past of users: `recserv import`.

    read, judge (`dataset`) -> parts on the disk, by user -> part by part: UserPast, its events oldest first, each once

Memory holds a batch of a file, then one part. The parts are unlinked files: however the process ends, none of them
remain. A user is whole in one part, so a store writes a profile once.

An event is told from others by its id, which is unique within its session, else user; without one, by its type, item
and time, and by how many alike came before it in its file. So a file counts once however often it is read, and so does
what two files have in common.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from types import TracebackType
from typing import IO, Any
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recserv.errors import DatasetError, UsageError
from recserv.training.columns import as_text, to_numpy
from recserv.training.dataset import ID_CONFLICT, EventDecoder, look_at_dates, refuse_unknown_events
from recserv.training.files import expand
from recserv.training.mapped import MappedBatch
from recserv.training.mapping_tables import TableMapping
from recserv.training.notes import Notes
from recserv.training.problems import BadRows, Progress, SkippedRows, no_progress
from recserv.training.readers import read_batches
from recserv.training.written_dates import DateOrder
from recserv.types import EVENT_AHEAD_MS_MAX, MARK_BYTES, PAST_EVENTS_MAX, Event, EventType, UserPast, wall_clock_ms

NEEDED = ("user_id", "event_time")
PARTS = 64
QUERY_BYTES_MAX = 1024
_ROWS_AT_ONCE = 20_000
_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("user", "session", "item", "event_id", "query")]
    + [("kind", pa.uint8()), ("time_ms", pa.int64()), ("quantity", pa.int64()), ("value", pa.float64())]
    + [("file", pa.int32()), ("row", pa.int64())]
)
_QUANTITY_MAX = 2.0**53

Columns = dict[str, list[Any]]


class Past:
    """What files hold of users; to be closed. `rows`: of users, and whose times are before the end that was asked for.

    Counted besides, those of `crowds` once the users were gone through: `without_user` rows, `too_young` rows,
    `duplicates`, and users of so many events that they are none, with their number.
    """

    def __init__(self) -> None:
        with _held_in_folder():
            self._files: list[IO[bytes]] = [tempfile.TemporaryFile() for _ in range(PARTS)]  # noqa: SIM115
        self._writers = [pa.ipc.new_stream(file, _SCHEMA, options=_compressed()) for file in self._files]
        self._paths: list[tuple[str, str]] = []
        self._has_ids = False
        self.rows = 0
        self.without_user = 0
        self.too_young = 0
        self.duplicates = 0
        self.crowds: list[tuple[str, int]] = []

    def __enter__(self) -> Past:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files:
            # On a full disk, closing reports the failed write again, which was reported already.
            with contextlib.suppress(OSError):
                file.close()

    def begin_file(self, path: str) -> None:
        self._paths.append((path, "event_id"))

    def add(self, table: Any, event_id_column: str) -> None:
        """Rows of the file begun last, columns as in _SCHEMA but for `file`."""
        self._paths[-1] = (self._paths[-1][0], event_id_column)
        self._has_ids = self._has_ids or bool(pc.any(pc.not_equal(table["event_id"], "")).as_py())
        self.rows += len(table)
        files = pa.array(np.full(len(table), len(self._paths) - 1, np.int32))
        table = table.append_column("file", files).select(_SCHEMA.names).cast(_SCHEMA)
        users = table["user"].combine_chunks().dictionary_encode()
        part_of = np.array([crc32(name.encode()) % PARTS for name in users.dictionary.to_pylist()], np.int64)
        parts = part_of[to_numpy(users.indices)]
        order = np.argsort(parts, kind="stable")
        ends = np.searchsorted(parts[order], np.arange(PARTS + 1))
        table = table.take(pa.array(order))
        for part, writer in enumerate(self._writers):
            begin, end = int(ends[part]), int(ends[part + 1])
            if end > begin:
                with _held_in_folder():
                    writer.write_table(table.slice(begin, end - begin))

    def finish(self, problems: BadRows, progress: Progress = no_progress) -> None:
        """No more rows. Raises DatasetError for an event id that stands for two events, before anything is imported."""
        with _held_in_folder():
            for file, writer in zip(self._files, self._writers, strict=True):
                writer.close()
                # Small parts may still be in a buffer.
                file.flush()
        if not self._has_ids:
            return
        done = 0
        for part in range(PARTS):
            for user in self._users(part):
                for place in _settled(user)[1]:
                    path, column = self._paths[user["file"][place]]
                    example = repr(user["event_id"][place])
                    problems.add(SkippedRows(path, column, ID_CONFLICT, user["row"][place], 1, example))
                done += len(user["row"])
                progress("checking event ids", done, self.rows)

    def users(self) -> Iterator[UserPast]:
        """Once `finish` was called. In an order that depends on nothing but the users."""
        self.crowds, self.duplicates = [], 0
        for part in range(PARTS):
            for user in self._users(part):
                yield self._past(user)

    def _users(self, part: int) -> Iterator[Columns]:
        """The rows of each user of a part, in the order of the files; of a crowd none."""
        self._files[part].seek(0)
        table = pa.ipc.open_stream(self._files[part]).read_all().combine_chunks()
        if not len(table):
            return
        ranks = to_numpy(pc.rank(table["user"], tiebreaker="dense"))
        order = np.argsort(ranks, kind="stable")
        bounds = np.searchsorted(ranks[order], np.arange(1, ranks.max() + 2)).tolist()
        table = table.take(pa.array(order))
        for begin, end in _strides(bounds):
            first = bounds[begin]
            if bounds[end] - first > PAST_EVENTS_MAX:
                self.crowds.append((table["user"][first].as_py(), bounds[end] - first))
                continue
            held = table.slice(first, bounds[end] - first).to_pydict()
            for here, after in zip(bounds[begin:end], bounds[begin + 1 : end + 1], strict=True):
                yield {name: values[here - first : after - first] for name, values in held.items()}

    def _past(self, rows: Columns) -> UserPast:
        kept, conflicts = _settled(rows)
        self.duplicates += len(rows["row"]) - len(kept) - len(conflicts)
        marks = _marks(rows, kept)
        order = sorted(range(len(kept)), key=lambda place: rows["time_ms"][kept[place]])
        events = tuple(_event(rows, kept[place], marks[place]) for place in order)
        return UserPast(rows["user"][0], events, b"".join(marks[place] for place in order))


@contextlib.contextmanager
def _held_in_folder() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        problem = error.strerror or str(error)
        folder = tempfile.tempdir or "the folder of temporary files"
        raise UsageError(f"{folder} cannot hold the parts of the files: {problem}; TMPDIR names another") from error


def _compressed() -> Any:
    return pa.ipc.IpcWriteOptions(compression="lz4")


def _strides(bounds: Sequence[int]) -> Iterator[tuple[int, int]]:
    """From which user to which: about _ROWS_AT_ONCE rows, or one user. `bounds`: where each user's rows begin, and the
    end of the last.
    """
    begin = 0
    for end in range(1, len(bounds)):
        last = end == len(bounds) - 1
        if last or bounds[end + 1] - bounds[begin] > _ROWS_AT_ONCE:
            yield begin, end
            begin = end


def _settled(rows: Columns) -> tuple[list[int], list[int]]:
    """Which rows of a user count, and those whose event id was there before with another event; the others were there
    before too, and say the same.
    """
    kept, conflicts = [], []
    seen: dict[tuple[str, str], tuple[Any, ...]] = {}
    bodies = zip(*(rows[name] for name in ("kind", "item", "time_ms", "quantity", "value")), strict=True)
    for place, (session, event_id, body) in enumerate(zip(rows["session"], rows["event_id"], bodies, strict=True)):
        if not event_id:
            kept.append(place)
            continue
        first = seen.setdefault((session, event_id), body)
        if first is body:
            kept.append(place)
        elif first != body:
            conflicts.append(place)
    return kept, conflicts


def _marks(rows: Columns, kept: Sequence[int]) -> list[bytes]:
    """MARK_BYTES for each row that counts."""
    alike: dict[tuple[Any, ...], int] = {}
    marks = []
    for place in kept:
        if rows["event_id"][place]:
            told = ("id", rows["session"][place], rows["event_id"][place])
        else:
            same = tuple(rows[name][place] for name in ("kind", "item", "query", "time_ms"))
            count = alike[rows["file"][place], same] = alike.get((rows["file"][place], same), 0) + 1
            told = ("like", *same, count)
        marks.append(blake2b(repr(told).encode(), digest_size=MARK_BYTES).digest())
    return marks


def _event(rows: Columns, place: int, mark: bytes) -> Event:
    return Event(
        event_id=rows["event_id"][place] or f"import-{mark.hex()}",
        event_type=EventType(rows["kind"][place]),
        user_id=rows["user"][place],
        session_id=rows["session"][place],
        item_id=rows["item"][place],
        quantity=rows["quantity"][place],
        value=rows["value"][place],
        search_query=rows["query"][place],
        event_time_ms=rows["time_ms"][place],
    )


def read_past(
    paths: Sequence[str],
    past: Past,
    table: TableMapping,
    problems: BadRows,
    notes: Notes,
    *,
    before_ms: int | None = None,
    now_ms: int | None = None,
    progress: Progress = no_progress,
) -> None:
    """All files, and all those in folders, into `past`, judged as `read_events` does. Rows without a user are counted
    and left out, and so are those of `before_ms` or later. Raises DatasetError, UsageError.
    """
    now_ms = wall_clock_ms() if now_ms is None else now_ms
    files = expand(paths)
    decoder = EventDecoder(
        table,
        problems,
        notes,
        now_ms + EVENT_AHEAD_MS_MAX,
        DateOrder(lambda order: look_at_dates(files, decoder.wanted, order, progress)),
        NEEDED,
    )
    for path in files:
        past.begin_file(path)
        for raw in read_batches(path, decoder.wanted, problems, notes):
            progress(f"reading {path.rsplit('/', 1)[-1]}", raw.done, raw.total)
            try:
                past.add(_rows(decoder, raw, past, before_ms), raw.sources.get("event_id", "event_id"))
            except pa.ArrowException as error:
                raise DatasetError(path, f"a column has a type that cannot be read: {error}") from error
    refuse_unknown_events(problems, notes)
    if not notes.rows_read:
        raise DatasetError(files[0] if files else "events", "the file has no rows" + " and no other" * (len(files) > 1))
    past.finish(problems, progress)


def _rows(decoder: EventDecoder, raw: MappedBatch, past: Past, before_ms: int | None) -> Any:
    judged = decoder.judge(raw)
    assert judged.time_ms is not None
    good = judged.good
    users = judged.ids["user_id"].dictionary_decode()
    known = to_numpy(pc.not_equal(users, ""))
    past.without_user += int(np.count_nonzero(good & ~known))
    good = good & known
    if before_ms is not None:
        past.too_young += int(np.count_nonzero(good & (judged.time_ms >= before_ms)))
        good = good & (judged.time_ms < before_ms)
    ids = {name: judged.ids[name].dictionary_decode() for name in judged.ids}
    nothing = pa.array([""] * len(good), pa.string())
    quantity = np.clip(judged.quantity, 0, _QUANTITY_MAX).astype(np.int64)
    columns = {
        "user": users,
        "session": ids.get("session_id", nothing),
        "item": ids["item_id"],
        "event_id": ids.get("event_id", nothing),
        "query": _queries(raw, nothing),
        "kind": judged.event_type,
        "time_ms": judged.time_ms,
        "quantity": quantity,
        "value": judged.value,
        "row": np.asarray(raw.rows, np.int64),
    }
    return pa.table(columns).filter(pa.array(good))


def _queries(raw: MappedBatch, nothing: Any) -> Any:
    """Of searches; one too long for an event is none."""
    if "search_query" not in raw.columns:
        return nothing
    text = pc.fill_null(as_text(raw.columns["search_query"])[0], "")
    return pc.if_else(pc.less_equal(pc.binary_length(text), QUERY_BYTES_MAX), text, "")
