"""Two lists beside each other, of one shopper."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from recserv.commands.server_process import ServerProcess
from tests.patience import PATIENT_SERVER, eventually
from tests.web.browser import Look, looking

pytestmark = pytest.mark.web


def test_two_settings_differ_and_the_page_says_where(look: Look) -> None:
    page, cold = look.page, look.ids()
    page.locator(".card-link").nth(8).click()
    viewed = look.changes(cold)
    page.click("#compare")
    page.wait_for_selector('[data-column="B"] .entry')
    look.settled()
    other = look.ids("B")
    assert other != viewed
    shared = len(set(viewed) & set(other))
    assert f"{shared} of the first 10 shared" in page.locator("#overlap").inner_text()
    assert page.locator('[data-column="A"] .tag.only').count() == 10 - shared
    assert page.locator('[data-column="B"] .tag.both').count() == shared
    look.shot("compare-settings")

    column = page.locator('[data-column="B"]')
    column.locator("summary").click()
    column.locator('input[type="range"]').fill("0")
    eventually(lambda: look.ids("B") == viewed, "with the same settings it is the same list")
    eventually(lambda: "rank overlap 100 %" in page.locator("#overlap").inner_text(), "all of it is shared")
    column.locator("select").first.select_option("5")
    eventually(lambda: look.ids("B") == viewed[:5], "five of them")
    page.click("#compare")
    assert page.locator('[data-column="B"]').count() == 0
    assert page.locator(".tag.only, .tag.both").count() == 0


def test_two_servers_are_told_the_same_events(
    open_look: Callable[..., Look], server: ServerProcess, tiny_model: Path, tmp_path: Path
) -> None:
    with (
        ServerProcess.started(tiny_model, tmp_path / "state.sqlite", PATIENT_SERVER) as second,
        looking("--target", server.target, "--compare", second.target) as url,
    ):
        look = open_look(url)
        page = look.page
        page.click("#compare")
        page.wait_for_selector('[data-column="B"] .entry')
        cold, cold_beside = look.ids(), look.ids("B")
        page.locator(".card-link").nth(8).click()
        look.changes(cold)
        look.changes(cold_beside, "B")
        assert "second server" in page.locator('[data-column="B"] h3').inner_text()
        look.shot("compare-servers")
        look.close()
