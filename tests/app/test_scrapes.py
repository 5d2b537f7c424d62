"""The listener for Prometheus, and the address that an older server still has."""

from __future__ import annotations

import asyncio
import contextlib
import urllib.request

import pytest

from recserv.app.scrapes import asked_on, scraped
from recserv.config import Settings
from recserv.errors import UsageError
from recserv.metrics import Metrics
from recserv.metrics.listener import MetricsListener
from tests.patience import HANG_GUARD_S, eventually


def settings(address: str, *, share_port: bool) -> Settings:
    return Settings(model="m", metrics_listen=address, share_port=share_port)


def models(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=HANG_GUARD_S) as response:
        lines = response.read().decode().splitlines()
    return next(line for line in lines if line.startswith("recserv_model_info{"))


def models_once_there(address: str) -> str:
    found: list[str] = []

    def there() -> bool:
        with contextlib.suppress(OSError):
            found.append(models(address))
        return bool(found)

    eventually(there)
    return found[0]


async def test_an_address_that_an_older_server_has_is_taken_over_once_it_is_gone() -> None:
    old, new = Metrics(), Metrics()
    old.model("old", 0)
    new.model("new", 0)
    before = MetricsListener(old, "127.0.0.1", 0)
    async with scraped(new, settings(before.address, share_port=True), lambda: True, retry_s=0.01) as address:
        assert address == ""
        assert "old" in await asyncio.to_thread(models, before.address)
        await asyncio.to_thread(before.close)
        assert "new" in await asyncio.to_thread(models_once_there, before.address)
    with pytest.raises(OSError):
        await asyncio.to_thread(models, before.address)


async def test_waiting_for_an_address_does_not_outlive_the_server() -> None:
    before = MetricsListener(Metrics(), "127.0.0.1", 0)
    async with scraped(Metrics(), settings(before.address, share_port=True), lambda: True, retry_s=0.01):
        pass
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
    before.close()


async def test_an_address_that_is_taken_and_not_shared_ends_the_start() -> None:
    before = MetricsListener(Metrics(), "127.0.0.1", 0)
    with pytest.raises(UsageError, match="cannot listen for metrics"):
        async with scraped(Metrics(), settings(before.address, share_port=False), lambda: True):
            pass
    before.close()


async def test_metrics_listen_off_opens_no_listener() -> None:
    async with scraped(Metrics(), settings("off", share_port=False), lambda: True) as address:
        assert address == ""


async def test_health_is_asked_on_the_loop_and_is_bad_when_the_loop_does_not_come_to_it() -> None:
    loop = asyncio.get_running_loop()
    asked_in: list[object] = []

    def serving() -> bool:
        asked_in.append(asyncio.get_running_loop())
        return True

    assert await asyncio.to_thread(asked_on(loop, serving)) is True
    assert asked_in == [loop]
    # This very loop waits for the answer, so it cannot give it.
    assert asked_on(loop, serving, wait_s=0.0)() is False
    gone = asyncio.new_event_loop()
    gone.close()
    assert asked_on(gone, serving)() is False
