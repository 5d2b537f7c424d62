"""Two lists beside each other, of one shopper."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from recserv.app.server_process import ServerProcess
from tests.patience import PATIENT_SERVER, eventually
from tests.web.browser import Look, looking
from tests.web.test_faults import expected
from tests.web.test_late import Held, wait_for

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


def test_moves_and_overlap_are_what_they_say(look: Look) -> None:
    """Against the same in Python, over lists of all kinds."""
    rng = random.Random(0)
    pairs = [[rng.sample("abcdefghijklmno", rng.randint(0, 12)) for _ in range(2)] for _ in range(200)]
    told = look.page.evaluate(
        """async (pairs) => {
          const { moves, overlap } = await import(new URL("moves.js", location.href));
          return pairs.map(([one, other]) => {
            const { moved, gone } = moves(one, other);
            return [[...moved].map(([id, move]) => [id, move.kind, move.by]), gone, overlap(one, other)];
          });
        }""",
        pairs,
    )
    for (one, other), (moved, gone, overlap) in zip(pairs, told, strict=True):
        assert moved == [[item, *_move(one, place, item)] for place, item in enumerate(other)]
        assert gone == [item for item in one if item not in other]
        depth = min(10, max(len(one), len(other)))
        shares = [len(set(one[:k]) & set(other[:k])) / k for k in range(1, depth + 1)]
        assert (overlap["shared"], overlap["of"]) == (len(set(one[:depth]) & set(other[:depth])), depth)
        assert overlap["rank"] == pytest.approx(sum(shares) / depth if depth else 1)


def _move(before: list[str], place: int, item: str) -> tuple[str, int]:
    if item not in before:
        return "new", 0
    by = before.index(item) - place
    return ("up" if by > 0 else "down" if by < 0 else "same"), abs(by)


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

        held = Held(page, "**/compare/api/v1/events")
        page.locator(".product .quiet").click()
        page.get_by_text("Noted: it will not be recommended.").wait_for()
        seen = look.ids()
        page.fill("#search-text", "item")
        page.keyboard.press("Enter")
        page.wait_for_selector("main[data-view=search]")
        look.changes(seen)
        wait_for(look, held, 1)
        assert len(held) == 1, "a server gets one event after the other"
        held.open = True
        held.release(0)
        page.go_back()
        page.wait_for_selector(".product .primary")
        look.settled()

        second.stop()
        page.locator(".product .primary").click()
        page.locator('[data-column="B"] .badge[data-kind="failed"]').wait_for()
        page.get_by_text("This was not stored at the second server").wait_for()
        look.cart_is(1)
        # What the second one said before is no answer to this event: it is not compared with it.
        look.settled()
        assert not page.locator("#overlap").is_visible()
        assert page.locator(".tag.only, .tag.both").count() == 0
        expected(look)
        look.close()
