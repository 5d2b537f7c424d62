"""Two million rows of CSV: the whole reading beside what Arrow alone takes for the same columns, and its memory."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest

from recserv.training.dataset import read_events

pytestmark = pytest.mark.benchmark

ROWS = 2_000_000
ROUNDS = 5
RATIO_MAX = 2.8
"""What reading took by the same measure when it knew fewer kinds of files: 2.8 to 2.9."""
BYTES_A_ROW_MAX = 150
COLUMNS = ("event_type", "session_id", "item_id", "event_time")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("log")
    items = np.random.default_rng(0).zipf(1.3, ROWS) % 50_000
    for name, rows in (("whole.csv", ROWS), ("half.csv", ROWS // 2)):
        lines = (f"view,s{n // 6},item-{item},{1_700_000_000 + n},x\n" for n, item in enumerate(items[:rows].tolist()))
        with (folder / name).open("w") as file:
            file.write("event_type,session_id,item_id,event_time,note\n")
            file.writelines(lines)
    return folder


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


def test_reading_takes_little_more_than_arrow_alone(log: Path) -> None:
    path = log / "whole.csv"
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


def test_memory_grows_with_the_log_and_not_with_the_file(log: Path) -> None:
    peaks = []
    for name in ("half.csv", "whole.csv"):
        program = (
            "import re; from pathlib import Path; from recserv.training.dataset import read_events; "
            f"read_events([{str(log / name)!r}]); "
            "print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
        )
        done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
        peaks.append(int(done.stdout) * 1024)
    row = (peaks[1] - peaks[0]) / (ROWS - ROWS // 2)
    print(f"\npeak {peaks[1] / 2**20:.0f} MiB; {row:.0f} bytes more a row")
    assert row <= BYTES_A_ROW_MAX
