"""What is behind the page breaks: it goes on, and says so."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from recserv.app.server_process import ServerProcess
from tests.patience import PATIENT_SERVER, eventually
from tests.redis_server import RedisServer
from tests.web.browser import Look, looking

pytestmark = pytest.mark.web
REFUSED = re.compile(r"error: Failed to load resource: the server responded with a status of 50[34] .*")


def expected(look: Look) -> None:
    """Chromium writes each failed answer to the console by itself."""
    assert [told for told in look.complaints if not REFUSED.fullmatch(told)] == []
    look.complaints.clear()


def test_when_the_state_is_taken_away_the_list_says_that_it_is_degraded_and_recovers(
    open_look: Callable[..., Look], shop: Path, tmp_path: Path, redis_server: RedisServer
) -> None:
    with (
        ServerProcess.started(shop, redis_server.url) as server,
        looking("--target", server.target) as url,
    ):
        look = open_look(url)
        page, cold = look.page, look.ids()
        page.locator(".card-link").nth(8).click()
        look.changes(cold)
        assert page.locator(".badge:visible").count() == 0
        redis_server.kill()
        page.click(".product .primary")
        badge = page.locator('.badge[data-kind="degraded"]')
        eventually(badge.is_visible, "the badge is shown")
        assert "what is stored of this shopper cannot be read" in badge.inner_text()
        assert len(look.ids()) == 10
        notice = page.locator('.notice[data-key="event"]')
        eventually(notice.is_visible, "what was not stored is told")
        look.shot("degraded")
        redis_server.restart()

        def sent() -> bool:
            if notice.is_visible():
                notice.get_by_role("button", name="Send it again").click()
            return not notice.is_visible() and page.locator("#cart-count").inner_text() == "1"

        eventually(sent, "the event is stored after all")
        eventually(lambda: not badge.is_visible(), "the badge is taken away")
        expected(look)
        look.close()


def test_when_the_server_is_gone_the_page_says_so_and_comes_back_with_it(
    open_look: Callable[..., Look], shop: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state.sqlite"
    with ServerProcess.started(shop, state, PATIENT_SERVER) as server, looking("--target", server.target) as url:
        look = open_look(url)
        page = look.page
        page.locator(".card .primary").nth(8).click()
        look.cart_is(1)
        look.settled()
        known = look.ids()
        server.stop()
        page.locator(".chip").nth(1).click()
        page.wait_for_selector('.notice[data-key="view"]')
        assert page.locator("h1").inner_text() == "No answer"
        assert page.get_by_role("button", name="Try again").count() == 1
        page.reload()
        failed = page.locator('.badge[data-kind="failed"]')
        failed.wait_for()
        assert page.locator("#cart-count").inner_text() == "0"
        look.shot("server-gone")
        # Nobody presses anything: the view, the list and the cart come back.
        with ServerProcess.started(shop, state, [*PATIENT_SERVER, "--listen", server.target]):
            page.wait_for_selector(".card")
            eventually(lambda: look.ids() == known, "the list is back")
            assert page.locator("h1").inner_text() != "No answer"
            assert not failed.is_visible()
            look.cart_is(1)
            assert page.locator('.notice[data-key="view"]').count() == 0
            look.shot("server-back")
            expected(look)
            look.close()


def test_when_the_state_comes_back_the_badge_goes_without_a_click(
    open_look: Callable[..., Look], shop: Path, redis_server: RedisServer
) -> None:
    with ServerProcess.started(shop, redis_server.url) as server, looking("--target", server.target) as url:
        look = open_look(url)
        redis_server.kill()
        look.page.locator(".card-link").nth(8).click()
        badge = look.page.locator('.badge[data-kind="degraded"]')
        eventually(badge.is_visible, "the badge is shown")
        redis_server.restart()
        eventually(lambda: not badge.is_visible(), "the badge is taken away")
        expected(look)
        look.close()
