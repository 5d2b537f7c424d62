"""Ten thousand calls at once: what is still answered, and whether whoever is not is told so."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from recserv.app.server_process import ServerProcess
from recserv.bench.load import LoadMaker, LoadOptions
from recserv.bench.requests import bodies, made_up_prefixes
from recserv.client import RecommendationClient
from tests.benchmark.test_overload import heavy, told

pytestmark = pytest.mark.benchmark

PROCESSES, CONNECTIONS, AT_ONCE, SECONDS = 2, 100, 5_000, 15
"""Of each process."""
USEFUL_MIN = 0.5
"""Of what a closed loop of eight gets. The load takes a core or more of the machine from the server meanwhile."""


def test_a_spike_leaves_nobody_without_an_answer_or_a_word(tiny_model: Path, tmp_path: Path) -> None:
    with ServerProcess.started(tiny_model, tmp_path / "state.db") as server, LoadMaker(1) as maker:
        with RecommendationClient(server.target) as client:
            asked = tuple(heavy(body) for body in bodies(made_up_prefixes(client), page_size=100))
        calm = LoadOptions(
            target=server.target, bodies=asked, requests=1_000_000, concurrency=8, connections=4, duration_s=3.0
        )
        capacity = maker.run(calm)
        before = server.peak_bytes()
        where = [server.target, asked[0].hex(), str(CONNECTIONS), str(AT_ONCE), str(SECONDS)]
        makers = [
            subprocess.Popen([sys.executable, "-m", "tests.benchmark.spike", *where], stdout=subprocess.PIPE, text=True)
            for _ in range(PROCESSES)
        ]
        ends = Counter[str]()
        for process in makers:
            ends.update(json.loads(process.communicate()[0]))
        after = server.peak_bytes()
    print(f"\nclosed loop, 8 at once: {told(capacity)}")
    useful_per_s, turned_away = ends["OK"] / SECONDS, ends["RESOURCE_EXHAUSTED"]
    print(f"spike: {useful_per_s:.0f} useful/s, {dict(ends)}; memory {before} -> {after}")
    assert set(ends) <= {"OK", "RESOURCE_EXHAUSTED", "told"}
    assert ends["told"] == turned_away
    assert useful_per_s >= USEFUL_MIN * capacity.rate_per_s
