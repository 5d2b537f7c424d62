from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from recserv.app.server_process import ServerProcess
from tests.patience import PATIENT_SERVER
from tests.web.browser import Look, looking

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SHOTS = "RECSERV_SCREENSHOTS"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. Fails where it is not installed."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    assert program is not None, "chromium not found: apt-get install chromium"
    # Its sandbox is for users, not for root in a container; these pages are ours.
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots are kept."""
    folder = Path(os.environ[SHOTS]) if SHOTS in os.environ else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    print(f"\nscreenshots: {folder}")
    return folder


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.web.shop_model import build_shop

    return build_shop(tmp_path_factory.mktemp("shop") / "model")


@pytest.fixture(scope="session")
def server(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    state = tmp_path_factory.mktemp("state") / "state.sqlite"
    with ServerProcess.started(shop, state, PATIENT_SERVER) as server:
        yield server


@pytest.fixture(scope="session")
def url(server: ServerProcess) -> Iterator[str]:
    with looking("--target", server.target) as url:
        yield url


@pytest.fixture
def open_look(browser: Browser, shots: Path) -> Iterator[Callable[..., Look]]:
    """Opens pages by their address; what one of them complained of, or asked of another host, fails the test."""
    opened: list[Look] = []

    def make(url: str, path: str = "", prepare: Callable[[Page], None] = lambda _: None, **settings: Any) -> Look:
        opened.append(Look(browser, url, shots, **settings))
        prepare(opened[-1].page)
        return opened[-1].open(path)

    with ExitStack() as stack:
        yield make
        for one in opened:
            stack.callback(one.close)
        assert [complaint for one in opened for complaint in one.complaints] == []
        assert [asked for one in opened for asked in one.foreign()] == []


@pytest.fixture
def look(open_look: Callable[..., Look], url: str) -> Look:
    return open_look(url)
