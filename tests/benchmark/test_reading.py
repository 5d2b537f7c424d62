"""Ten million rows of CSV: the whole reading beside what Arrow alone takes for the same columns, and its memory."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest

from recserv.training.dataset import read_events

pytestmark = pytest.mark.benchmark

ROWS, FEWER_ROWS = 10_000_000, 2_000_000
ROWS_AT_ONCE = 100_000
ROUNDS = 2
RATIO_MAX = 4.0
"""What reading took by the same measure before ids were counted rather than sorted."""
BYTES_A_ROW_MAX = 150
"""Of the log that is kept: codes, types and times, 17 bytes a row, more than once while the batches are put together,
and the ids of the sessions.
"""
READER_RATIO_MAX = 1.5
"""The peak of what reads and judges, for five times the rows. Its batches are as large, whatever the file; what Arrow's
allocator keeps of them settles after some ten.
"""
COLUMNS = ("event_type", "session_id", "item_id", "event_time")

READ_AND_DROP = """
from recserv.training.dataset import EventDecoder
from recserv.training.mapping_tables import TableMapping
from recserv.training.notes import Notes
from recserv.training.problems import BadRows
from recserv.training.readers import read_batches
from recserv.training.written_dates import DateOrder
problems, notes = BadRows(skip=False), Notes()
decoder = EventDecoder(TableMapping(), problems, notes, 2**62, DateOrder(lambda order: None))
rows = sum(len(decoder.decode(raw).event_type) for raw in read_batches(path, decoder.wanted, problems, notes))
"""
READ_AND_KEEP = "from recserv.training.dataset import read_events\nrows = len(read_events([path]))\n"
TELL = r"""
import re
from pathlib import Path
print(rows, re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
"""


def _write(path: Path, rows: int) -> None:
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        file.write("event_type,session_id,item_id,event_time,note\n")
        for begin in range(0, rows, ROWS_AT_ONCE):
            items = enumerate((rng.zipf(1.3, ROWS_AT_ONCE) % 50_000).tolist(), begin)
            file.writelines(f"view,s{n // 6},item-{item},{1_700_000_000 + n},x\n" for n, item in items)


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Path]]:
    folder = tmp_path_factory.mktemp("log")
    paths = {rows: folder / f"{rows}.csv" for rows in (FEWER_ROWS, ROWS)}
    for rows, path in paths.items():
        _write(path, rows)
    yield paths
    for path in paths.values():
        path.unlink()


def _arrow_alone(path: Path) -> None:
    """Parsed, ids and types encoded, times as numbers: what no reading can do without."""
    reader = pa_csv.open_csv(
        path,
        read_options=pa_csv.ReadOptions(use_threads=False, block_size=4 << 20),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            include_columns=list(COLUMNS), column_types=dict.fromkeys(COLUMNS, pa.string())
        ),
    )
    for batch in reader:
        for name in COLUMNS[:3]:
            batch.column(name).dictionary_encode()
        batch.column("event_time").cast(pa.int64())


def test_reading_takes_little_more_than_arrow_alone(logs: dict[int, Path]) -> None:
    path = logs[ROWS]
    ours, floor = [], []
    for _ in range(ROUNDS):
        began = time.process_time()
        read_events([str(path)])
        between = time.process_time()
        _arrow_alone(path)
        ours.append(between - began)
        floor.append(time.process_time() - between)
    ratio = min(ours) / min(floor)
    print(f"\n{ROWS:,} rows of CSV: {ROWS / min(ours) / 1e6:.1f} million a second; x {ratio:.2f} of Arrow alone")
    assert ratio <= RATIO_MAX


def _peak_bytes(path: Path, rows: int, program: str) -> int:
    """Of a process of its own."""
    command = [sys.executable, "-c", f"path = {str(path)!r}\n{program}{TELL}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    read, peak = map(int, done.stdout.split())
    assert read == rows
    return peak * 1024


def test_the_memory_of_the_reader_is_flat(logs: dict[int, Path]) -> None:
    fewer, peak = (_peak_bytes(path, rows, READ_AND_DROP) for rows, path in logs.items())
    print(f"\nreader alone: peak {peak / 2**20:.0f} MiB at {ROWS:,} rows, {fewer / 2**20:.0f} at {FEWER_ROWS:,}")
    assert peak <= READER_RATIO_MAX * fewer


def test_memory_grows_with_the_log_that_is_kept_and_not_with_the_file(logs: dict[int, Path]) -> None:
    fewer, peak = (_peak_bytes(path, rows, READ_AND_KEEP) for rows, path in logs.items())
    row = (peak - fewer) / (ROWS - FEWER_ROWS)
    print(f"\npeak {peak / 2**20:.0f} MiB at {ROWS:,} rows; {row:.0f} bytes more a row")
    assert row <= BYTES_A_ROW_MAX
