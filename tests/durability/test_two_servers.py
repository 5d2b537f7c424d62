from __future__ import annotations

import subprocess
from pathlib import Path

from recserv import v1 as pb
from recserv.app.server_process import ServerProcess
from tests.durability.servers import serve_arguments, stopped
from tests.durability.state_file import read_state_file
from tests.patience import HANG_GUARD_S, PATIENT_SERVER
from tests.project_files import ROOT
from tests.server.harness import Client, view
from tests.stores.tracing import python


def ingest(client: Client, event_id: str) -> int:
    raw = client.unary("IngestEvent", pb.IngestEventRequest(event=view(event_id)))
    return pb.IngestEventResponse.FromString(raw).status


def test_a_second_server_on_a_state_file_is_refused_and_the_first_does_not_notice(
    tiny_model: Path, tmp_path: Path
) -> None:
    state, alias = tmp_path / "state.db", tmp_path / "alias.db"
    alias.symlink_to(state)
    with ServerProcess.started(tiny_model, state, PATIENT_SERVER) as first:
        client = Client(first.target)
        assert ingest(client, "before") == pb.INGEST_STATUS_ACCEPTED
        for name in (state, alias):
            command = python("recserv", "serve", *serve_arguments(tiny_model, name))
            # Exits by itself; TimeoutExpired otherwise.
            second = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=HANG_GUARD_S)
            assert second.returncode == 2
            assert second.stdout == ""
            [line] = [line for line in second.stderr.splitlines() if line.startswith("recserv serve: ")]
            assert f"state file {name} is in use by another server (process {first.pid})" in line
            assert "Traceback" not in second.stderr
        assert ingest(client, "before") == pb.INGEST_STATUS_DUPLICATE
        assert ingest(client, "after") == pb.INGEST_STATUS_ACCEPTED
        raw = client.unary("Recommend", pb.RecommendRequest(session_id="s-1"))
        assert not pb.RecommendResponse.FromString(raw).degraded
        client.channel.close()
        assert stopped(first) == 0
    stored = read_state_file(state)
    stored.check()
    assert set(stored.times) == {("s-1", "before"), ("s-1", "after")}
    with ServerProcess.started(tiny_model, alias, PATIENT_SERVER) as third:
        client = Client(third.target)
        assert ingest(client, "after") == pb.INGEST_STATUS_DUPLICATE
        client.channel.close()
