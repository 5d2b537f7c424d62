"""How much longer than a call that does nothing a Recommend takes, both measured in turns in the same run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from recserv.bench.compare import Comparison, compare
from recserv.bench.load import LoadOptions
from recserv.bench.requests import bodies, made_up_prefixes
from recserv.client import RecommendationClient

if TYPE_CHECKING:
    from recserv.commands.server_process import ServerProcess

pytestmark = pytest.mark.benchmark

CALLS = 1000
ROUNDS = 10
RATIO_MAX = 3.0


def _measure(server: ServerProcess) -> Comparison:
    with RecommendationClient(server.target) as client:
        contexts = bodies(made_up_prefixes(client))
    return compare(LoadOptions(target=server.target, bodies=contexts, requests=CALLS), rounds=ROUNDS)


def _check(comparison: Comparison) -> None:
    assert comparison.target.succeeded == comparison.null.succeeded == CALLS
    recserv_ms = comparison.target.latencies.quantile_s(0.5) * 1000
    null_ms = comparison.null.latencies.quantile_s(0.5) * 1000
    print(f"\np50 of {CALLS} sequential calls: recserv {recserv_ms:.3f} ms, null handler {null_ms:.3f} ms")
    assert comparison.ratio(0.5) < RATIO_MAX


def test_a_recommend_on_the_tiny_model_takes_less_than_three_empty_calls(recserv_server: ServerProcess) -> None:
    _check(_measure(recserv_server))


@pytest.mark.slow
def test_a_recommend_on_the_demo_model_takes_less_than_three_empty_calls(demo_model: Path, tmp_path: Path) -> None:
    from recserv.commands.server_process import ServerProcess

    with ServerProcess.started(demo_model, tmp_path / "state.db") as server:
        _check(_measure(server))
