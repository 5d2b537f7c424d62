"""The whole application on a loop and a thread of its own: the real pipeline and store behind a real port."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from recserv.app.model import load_model
from recserv.app.serving import Running, running
from recserv.config import Settings
from tests.patience import HANG_GUARD_S
from tests.server.harness import Client, LoopThread

_PATIENT_MS = {
    name: int(HANG_GUARD_S * 1000)
    for name in (
        *("default_deadline_ms", "recommend_budget_ms"),
        *("redis_connect_timeout_ms", "redis_read_timeout_ms", "redis_write_timeout_ms"),
    )
}


class LiveApp(Client):
    def __init__(self, model: Path, state: Path | str, **settings: Any):
        """`state`: a file, or what --state takes. Unless `settings` say so, nothing is degraded for want of time."""
        state = f"embedded:{state}" if isinstance(state, Path) else state
        given = {"listen": "127.0.0.1:0", "metrics_listen": "off", **_PATIENT_MS, **settings}
        self._settings = Settings(model=str(model), state=state, **given)
        self._closed = False
        self._loop = LoopThread()
        self._block: AbstractAsyncContextManager[Running] = running(self._settings, load_model(self._settings))
        self.app = self._loop.run(self._block.__aenter__())
        super().__init__(self.app.address)

    def close(self) -> None:
        """Drains and ends. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self.channel.close()
        self._loop.run(self._block.__aexit__(None, None, None))
        self._loop.close()

    def sample(self, name: str, **labels: str) -> float:
        return self.app.metrics.registry.get_sample_value(name, {"tenant": "default", **labels}) or 0.0
