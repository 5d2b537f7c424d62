"""A provider for tests: llmock, in a process of its own. It plays faults, remembers requests, judges the client."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import httpx

from tests.patience import HANG_GUARD_S, eventually
from tests.redis_server import free_port
from tests.tools import program


class MockProvider:
    def __init__(self, port: int):
        self.origin = f"http://127.0.0.1:{port}"
        self.base_url = f"{self.origin}/v1"
        self._admin = httpx.Client(base_url=f"{self.origin}/_llmock", trust_env=False, timeout=HANG_GUARD_S)

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


def _began_or_ended(process: subprocess.Popen[bytes], provider: MockProvider) -> bool:
    return process.poll() is not None or provider.answers()


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
            eventually(partial(_began_or_ended, process, provider), "llmock starts")
            if process.poll() is None:
                yield provider
                return
        finally:
            provider.close()
            # Asked kindly, it would wait for the streams that it lets stall.
            process.kill()
            process.wait(HANG_GUARD_S)
    raise AssertionError("llmock does not start")
