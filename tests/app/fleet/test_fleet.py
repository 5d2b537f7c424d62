"""A server of several workers: one port, one page of metrics, and whoever ends is replaced."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from recserv import cli
from recserv import v1 as pb
from recserv.app.fleet.supervisor import Supervisor
from recserv.config import Settings
from tests.app.fleet.support import Fleet, alive, callers, children, counts, fleet
from tests.factories import build_tiny_model
from tests.patience import HANG_GUARD_S, eventually


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory that tests may replace."""
    return Path(shutil.copytree(tiny_model, tmp_path_factory.mktemp("fleet") / "model"))


@pytest.fixture(scope="module")
def server(model: Path, state: str) -> Iterator[Fleet]:
    with fleet(model, state, ["--model-watch-ms", "50"]) as running:
        yield running


def answering(server: Fleet, connections: int = 12) -> set[str]:
    with callers(server.target, connections) as many:
        return {caller.recommend()[1] for caller in many}


def served(server: Fleet) -> str:
    """The model that the page of metrics tells of, once it tells of one alone: not before all workers were asked."""
    eventually(lambda: len(server.models()) == 1, "one model")
    [version] = server.models()
    return version


def replace_model(model: Path, new: Path) -> None:
    """As a deployment does: built elsewhere, renamed into place."""
    old = model.with_name("old")
    model.rename(old)
    new.rename(model)
    shutil.rmtree(old)


def test_both_workers_answer_and_say_who_they_are(server: Fleet) -> None:
    seen: set[str] = set()
    eventually(lambda: len(seen.update(answering(server)) or seen) >= 2, "two workers answer")
    assert len(server.workers()) == 2


def test_a_probe_of_the_parent_passes_while_a_worker_serves(server: Fleet) -> None:
    assert server.probe() == 200


async def test_a_probe_of_the_parent_fails_without_a_worker_that_serves() -> None:
    supervisor = Supervisor(Settings(model="m", workers=2), "127.0.0.1:1", lambda _: None)
    assert not supervisor._answering()
    generation = supervisor._next(whole=False)
    assert not supervisor._answering()
    generation._slots[1].served(0.0)
    assert supervisor._answering()
    supervisor._ended.set_result(None)
    assert not supervisor._answering()


def test_an_error_names_its_worker_too(server: Fleet) -> None:
    with callers(server.target, 1) as [caller], pytest.raises(grpc.RpcError) as caught:
        caller.ingest(pb.Event(event_id=""))
    assert "x-recserv-worker" in dict(caught.value.trailing_metadata())


def test_an_event_taken_by_one_worker_is_seen_by_the_other(server: Fleet) -> None:
    with callers(server.target, 24) as many:
        by_worker = {caller.recommend()[1]: caller for caller in many}
        assert len(by_worker) == 2, "24 connections all went to one worker"
        one, other = by_worker.values()
        event = pb.Event(event_id="e", event_type=pb.EVENT_TYPE_VIEW, session_id="seen", item_id="item-3")
        taker = one.ingest(event)[1]
        answer, answerer = other.recommend("seen")
    assert taker != answerer
    assert any("item-3" in reason.because_item_ids for result in answer.results for reason in result.reasons)


def test_a_worker_that_is_killed_is_replaced_and_its_counts_are_kept(server: Fleet) -> None:
    answering(server)
    before, workers = server.calls("Recommend"), server.workers()
    os.kill(workers[0], signal.SIGKILL)
    # Only then has the parent heard of it, and what it says of who is ready is of afterwards.
    eventually(lambda: server.metric("recserv_worker_exits_total", cause="SIGKILL") == 1, "the parent hears of it")
    eventually(lambda: server.metric("recserv_workers_ready") == 2, "two workers ready again")
    assert len(set(server.workers()) - set(workers)) == 1
    assert server.calls("Recommend") >= before
    eventually(lambda: len(answering(server)) >= 2, "both answer again")


def test_a_worker_that_is_told_to_end_drains_and_is_replaced(server: Fleet) -> None:
    [first, _] = server.workers()
    os.kill(first, signal.SIGTERM)
    eventually(lambda: server.metric("recserv_worker_exits_total", cause="exit code 0") == 1, "the parent hears of it")
    eventually(lambda: server.metric("recserv_workers_ready") == 2, "two workers ready again")
    assert first not in server.workers()


def test_a_worker_that_hangs_holds_no_scrape_up(server: Fleet) -> None:
    [first, _] = server.workers()
    os.kill(first, signal.SIGSTOP)
    try:
        page = server.page()
    finally:
        os.kill(first, signal.SIGCONT)
    assert page["recserv_workers_ready", ()] == 2
    assert any(value > 0 for (name, labels), value in page.items() if counts(name, labels, "Recommend"))


def test_another_model_is_served_by_new_workers_and_the_old_ones_go(server: Fleet, model: Path, tmp_path: Path) -> None:
    before = served(server)
    loaders, workers = server.loaders(), server.workers()
    replace_model(model, build_tiny_model(tmp_path / "new", seed=5))
    eventually(lambda: not any(alive(pid) for pid in loaders + workers), "the old generation goes")
    eventually(lambda: before not in server.models(), "its model is told of no more")
    after = served(server)
    eventually(lambda: (len(server.loaders()), len(server.workers())) == (1, 2), "their processes are gone")
    with callers(server.target, 4) as many:
        assert {caller.recommend()[0].model_version for caller in many} == {after}
    assert server.metric("recserv_model_reloads_total", outcome="loaded") == 1


@pytest.mark.slow
def test_a_bad_model_is_refused_and_the_old_workers_stay(server: Fleet, model: Path, tmp_path: Path) -> None:
    before, workers = served(server), server.workers()
    new = build_tiny_model(tmp_path / "new", seed=6)
    (new / "embeddings.npy").write_bytes(b"nothing of the sort")
    replace_model(model, new)
    refused = server.metric("recserv_model_reloads_total", outcome="refused")
    eventually(lambda: server.metric("recserv_model_reloads_total", outcome="refused") > refused)
    assert "embeddings.npy" in server.log()
    assert server.workers() == workers
    assert served(server) == before
    # SIGHUP asks for it once more.
    refused = server.metric("recserv_model_reloads_total", outcome="refused")
    server.signal(signal.SIGHUP)
    eventually(lambda: server.metric("recserv_model_reloads_total", outcome="refused") > refused)
    replace_model(model, build_tiny_model(tmp_path / "good", seed=7))
    eventually(lambda: server.models() and before not in server.models(), "a good one is taken")
    eventually(lambda: len(server.loaders()) == 1)


def test_a_loader_that_is_killed_is_replaced_and_its_workers_serve_until_then(server: Fleet) -> None:
    [loader], workers = server.loaders(), server.workers()
    # Nobody takes the place of the workers before we have asked them.
    server.signal(signal.SIGSTOP)
    try:
        os.kill(loader, signal.SIGKILL)
        eventually(lambda: not alive(loader))
        assert answering(server)
    finally:
        server.signal(signal.SIGCONT)
    eventually(lambda: not any(alive(pid) for pid in workers), "the orphans drain")
    eventually(lambda: loader not in server.loaders() and len(server.workers()) == 2, "another loader has forked")
    eventually(lambda: server.metric("recserv_workers_ready") == 2)
    assert answering(server)


def test_a_second_server_on_the_port_is_refused(
    server: Fleet, model: Path, state: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--listen", server.target, "--metrics-listen", "off", "--workers", "2"]
    assert cli.main(["serve", "--model", str(model), "--state", state, *options]) == 2
    assert f"cannot listen on {server.target}" in capsys.readouterr().err


def test_sigterm_drains_all_of_them(server: Fleet) -> None:
    everybody = server.everybody()
    server.signal(signal.SIGTERM)
    assert server.process.wait(HANG_GUARD_S) == 0
    assert not any(alive(pid) for pid in everybody)
    assert server.log().count('"message":"drained"') >= 3


def test_the_parent_has_nothing_of_grpc_nor_of_a_model(tiny_model: Path, state: str) -> None:
    with fleet(tiny_model, state, ["--connection-age-ms", "200"]) as server:
        mapped = Path(f"/proc/{server.pid}/maps").read_text()
        assert "cygrpc" in Path(f"/proc/{server.workers()[0]}/maps").read_text()
        assert [name for name in ("cygrpc", "numpy", "hnswlib", "uvloop") if name in mapped] == []
        # While we are here: one connection comes to every worker in time.
        with callers(server.target, 1) as [caller]:
            seen: set[str] = set()
            eventually(lambda: seen.add(caller.recommend()[1]) or len(seen) == 2, "connections move on")


LOADER_STANDS_STILL = """
import os
import sys
import time

if "recserv.app.fleet.loader" in sys.orig_argv:
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.05)
    os._exit(1)
"""


def test_a_signal_while_the_model_is_loaded_ends_the_start(tiny_model: Path, state: str, tmp_path: Path) -> None:
    # Python runs it at the start of every process: this one does not get to the end of its loading.
    (tmp_path / "sitecustomize.py").write_text(LOADER_STANDS_STILL)
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    arguments = ["--model", str(tiny_model), "--state", state, "--listen", "127.0.0.1:0", "--metrics-listen", "off"]
    command = [sys.executable, "-m", "recserv", "serve", *arguments, "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
        try:
            eventually(lambda: children(process.pid))
            [loader] = children(process.pid)
            # Nothing to replace yet, and no reason to end.
            process.send_signal(signal.SIGHUP)
            process.terminate()
            output, _ = process.communicate(timeout=HANG_GUARD_S)
        finally:
            process.kill()
    assert process.returncode == 0
    assert output == b""
    assert not alive(loader)


def test_a_second_signal_ends_everything_at_once(tiny_model: Path, state: str) -> None:
    with fleet(tiny_model, state, ["--lame-duck-ms", "600000", "--drain-ms", "600000"]) as server:
        everybody = server.everybody()
        server.signal(signal.SIGTERM)
        eventually(lambda: server.log().count('"message":"draining"') >= 3)
        server.signal(signal.SIGTERM)
        assert server.process.wait(HANG_GUARD_S) == -signal.SIGTERM
        eventually(lambda: not any(alive(pid) for pid in everybody))


def test_when_the_parent_is_killed_the_workers_drain_and_go(tiny_model: Path, state: str) -> None:
    with fleet(tiny_model, state) as server:
        everybody = server.everybody()
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait(HANG_GUARD_S)
        eventually(lambda: not any(alive(pid) for pid in everybody))
        assert server.log().count('"message":"drained"') == 2


@pytest.mark.slow
def test_a_worker_that_hangs_when_the_parent_is_killed_is_killed_too(tiny_model: Path, state: str) -> None:
    with fleet(tiny_model, state, ["--drain-ms", "0"]) as server:
        everybody = server.everybody()
        os.kill(server.workers()[0], signal.SIGSTOP)
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait(HANG_GUARD_S)
        eventually(lambda: not any(alive(pid) for pid in everybody))


def test_a_model_that_cannot_be_loaded_is_exit_code_2(
    tmp_path: Path, state: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--listen", "127.0.0.1:0", "--metrics-listen", "off", "--workers", "2"]
    assert cli.main(["serve", "--model", str(tmp_path / "no"), "--state", state, *options]) == 2
    assert "no such directory" in capsys.readouterr().err


def test_several_workers_refuse_a_state_that_belongs_to_one(
    tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["serve", "--model", str(tiny_model), "--workers", "2"]) == 2
    assert "embedded state belongs to one process" in capsys.readouterr().err
