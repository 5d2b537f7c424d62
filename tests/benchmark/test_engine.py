"""How long search, sources and ranking take on real sessions, beside one exact search by NumPy in the same run."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from recserv.evaluation.report import evaluate
from recserv.model.snapshot import load_snapshot
from recserv.training.build import build
from recserv.training.options import BuildOptions

DATA = Path(__file__).parents[3] / "shared" / "data" / "diginetica"
PREFIXES = 6_000
EXACT_SEARCHES = 300
SHARE_MAX = 0.35

pytestmark = pytest.mark.benchmark


def _exact_us(model: Path) -> float:
    """Median of scoring all item vectors, float32 [n, d], and sorting the best 20."""
    vectors = np.ascontiguousarray(load_snapshot(model).embeddings)
    rng = np.random.default_rng(0)
    times = []
    # Threads of the BLAS that wait for a core would be measured too.
    with threadpool_limits(1, user_api="blas"):
        for _ in range(EXACT_SEARCHES):
            query = rng.standard_normal(vectors.shape[1]).astype(np.float32)
            query /= np.linalg.norm(query)
            began = time.perf_counter()
            scores = vectors @ query
            best = np.argpartition(-scores, 20)[:20]
            best = best[np.argsort(-scores[best])]
            times.append(time.perf_counter() - began)
    return float(np.median(times) * 1e6)


@pytest.mark.skipif(not DATA.exists(), reason="the data lies beside the checkout, where there is one")
def test_the_engine_takes_a_third_of_one_exact_search(tmp_path: Path) -> None:
    # Spectral vectors and few examples: as many items, sessions and weights as in a full build, in a fifth of its time.
    events = (str(DATA / "train_sessions.txt.gz"),)
    build(BuildOptions(events=events, out=str(tmp_path / "model"), epochs=0.0, rank_examples=4_000))
    few = tmp_path / "few.tsv"
    with gzip.open(DATA / "test_prefix_target.tsv.gz", "rt") as lines:
        few.write_text("".join(line for line, _ in zip(lines, range(PREFIXES), strict=False)))
    report = evaluate(tmp_path / "model", few)
    exact_us = _exact_us(tmp_path / "model")
    print(
        f"\nmedian of {PREFIXES} prefixes: search, sources and ranking {report.engine_us_median:.0f} us, the whole"
        f" request {report.request_us_median:.0f} us; one exact search by NumPy {exact_us:.0f} us"
    )
    assert report.degraded == 0
    assert report.engine_us_median < SHARE_MAX * exact_us
