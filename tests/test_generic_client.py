"""A generic client that nobody here wrote finds its way by reflection: `buf curl` against the real server."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.patience import HANG_GUARD_S
from tests.tools import buf

if TYPE_CHECKING:
    from recserv.app.server_process import ServerProcess

SERVICE = "recserv.v1.RecommendationService"


def _curl(server: ServerProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    *options, path = arguments
    command = [buf(), "curl", "--protocol", "grpc", "--http2-prior-knowledge", *options]
    command.append(f"http://{server.target}{path}")
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG_GUARD_S, check=False)


def _call(server: ServerProcess, method: str, request: dict[str, Any]) -> dict[str, Any]:
    done = _curl(server, "--data", json.dumps(request), f"/{method}")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("version", ["grpc-v1", "grpc-v1alpha"])
def test_reflection_lists_the_services(recserv_server: ServerProcess, version: str) -> None:
    listed = _curl(recserv_server, "--reflect-protocol", version, "--list-services", "")
    assert listed.returncode == 0, listed.stderr
    assert {SERVICE, "grpc.health.v1.Health"} <= set(listed.stdout.split())


def test_health_says_serving_for_the_server_and_for_the_service(recserv_server: ServerProcess) -> None:
    for service in ("", SERVICE):
        assert _call(recserv_server, "grpc.health.v1.Health/Check", {"service": service}) == {"status": "SERVING"}


def test_health_of_an_unknown_service_is_not_found(recserv_server: ServerProcess) -> None:
    done = _curl(recserv_server, "--data", '{"service": "no.such.Service"}', "/grpc.health.v1.Health/Check")
    assert done.returncode != 0
    assert "not_found" in done.stderr


def test_recommend_answers_a_new_session_with_popular_items(recserv_server: ServerProcess) -> None:
    request = {"sessionId": "curl-1", "pageSize": 3, "returnItems": True}
    answer = _call(recserv_server, f"{SERVICE}/Recommend", request)
    assert [result["rank"] for result in answer["results"]] == [1, 2, 3]
    assert {result["source"] for result in answer["results"]} <= {"SOURCE_POPULAR", "SOURCE_TRENDING"}
    assert all(result["item"]["itemId"] == result["itemId"] for result in answer["results"])
    assert answer["modelVersion"]


def test_a_bad_request_names_its_field(recserv_server: ServerProcess) -> None:
    done = _curl(recserv_server, "--data", '{"sessionId": "curl-2", "pageSize": 101}', f"/{SERVICE}/Recommend")
    assert done.returncode != 0
    assert "invalid_argument" in done.stderr
    assert "page_size" in done.stderr
