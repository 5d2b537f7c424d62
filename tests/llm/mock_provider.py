"""A provider for tests: llmock, in a process of its own. It plays faults, remembers requests, judges the client."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx

from tests.redis_server import free_port
from tests.tools import program

START_TIMEOUT_S = 30.0


class MockProvider:
    def __init__(self, port: int):
        self.origin = f"http://127.0.0.1:{port}"
        self.base_url = f"{self.origin}/v1"
        self._admin = httpx.Client(base_url=f"{self.origin}/_llmock", trust_env=False, timeout=10.0)

    def answers(self) -> bool:
        try:
            return self._admin.get("/scenario").status_code == 200
        except httpx.HTTPError:
            return False

    def reset(self) -> None:
        self._admin.post("/reset").raise_for_status()

    def script(self, *behaviors: dict[str, Any]) -> None:
        self._admin.post("/scenario", json={"behaviors": list(behaviors)}).raise_for_status()

    def requests(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._admin.get("/requests").raise_for_status().json()["requests"]
        return found

    def findings(self) -> list[str]:
        """What the mock holds against its client: errors and warnings."""
        verdict = self._admin.get("/verdict").raise_for_status().json()
        return [f"{finding['code']}: {finding['title']}" for finding in verdict["findings"]]

    def close(self) -> None:
        self._admin.close()


@contextlib.contextmanager
def mock_provider(*options: str) -> Iterator[MockProvider]:
    """Runs until the block ends. Between choosing the port and taking it another may be faster: then it tries again."""
    for _ in range(3):
        port = free_port()
        command: Sequence[str] = [
            *[program("llmock", "llmock"), "serve", "--host", "127.0.0.1", "--port", str(port)],
            *["--log-level", "error", *options],
        ]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        provider = MockProvider(port)
        try:
            give_up_s = time.monotonic() + START_TIMEOUT_S
            while process.poll() is None and time.monotonic() < give_up_s:
                if provider.answers():
                    yield provider
                    return
                time.sleep(0.05)
        finally:
            provider.close()
            process.terminate()
            process.wait(10)
    raise AssertionError("llmock does not start")
