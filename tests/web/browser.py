"""A page of Debian's Chromium, and what it asked for and complained of."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.patience import HANG_GUARD_S, eventually
from tests.processes import read_line

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WAIT_MS = HANG_GUARD_S * 1000
WIDE = (1440, 950)
PHONE = (360, 740)


@contextmanager
def looking(*arguments: str) -> Iterator[str]:
    """`recserv look` without opening a browser; the page's address."""
    command = [sys.executable, "-m", "recserv", "look", "--no-browser", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = read_line(process.stdout)
            assert line.startswith("recserv look on "), line
            yield line.removeprefix("recserv look on ").strip()
        finally:
            process.terminate()


class Look:
    """The page, opened and ready."""

    def __init__(self, browser: Browser, url: str, shots: Path, size: tuple[int, int] = WIDE, **context: Any):
        self.url, self._shots = url, shots
        width, height = size
        self.context = browser.new_context(viewport={"width": width, "height": height}, **context)
        self.context.set_default_timeout(WAIT_MS)
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page = self.tab()

    def tab(self) -> Page:
        page = self.context.new_page()
        page.on("console", lambda told: self._heard(told.type, told.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("dialog", lambda dialog: (self.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        return page

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(f"{kind}: {text}")

    def open(self, path: str = "", page: Page | None = None) -> Look:
        page = page or self.page
        page.goto(f"{self.url}{path}")
        page.wait_for_selector("body[data-ready]")
        return self

    def foreign(self) -> list[str]:
        """Requests that went to another host."""
        home = urlsplit(self.url).netloc
        return [
            url for url in self.asked if urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).netloc != home
        ]

    def ids(self, column: str = "A", page: Page | None = None) -> list[str]:
        return list(self._all(f'[data-column="{column}"] .entry', "id", page))

    def kinds(self) -> dict[str, str]:
        """How each entry of the list moved."""
        return dict(zip(self.ids(), self._all('[data-column="A"] .entry', "kind"), strict=True))

    def gone(self) -> list[str]:
        return list(self._all(".gone:not([hidden]) li[data-id]", "id"))

    def _all(self, selector: str, name: str, page: Page | None = None) -> list[str]:
        found: list[str] = (
            (page or self.page)
            .locator(selector)
            .evaluate_all("(elements, name) => elements.map((element) => element.dataset[name])", name)
        )
        return found

    def watches(self) -> bool:
        """Whether the gateway has a stream of recommendations."""
        config = self.context.request.get(f"{self.url}config.json").json()
        return bool(config["watches"])

    def changes(self, before: list[str], column: str = "A", page: Page | None = None) -> list[str]:
        """The list once it is another one."""
        eventually(lambda: self.ids(column, page) not in (before, []), "the list changes")
        self.settled()
        return self.ids(column, page)

    def settled(self) -> None:
        """No list waits for an answer."""
        eventually(lambda: self.page.locator(".column[aria-busy]").count() == 0, "the lists are there")

    def cart_is(self, count: int) -> None:
        eventually(lambda: self.page.locator("#cart-count").inner_text() == str(count), f"{count} in the cart")

    def said(self) -> str:
        return str(self.page.locator("#said").text_content())

    def facts(self) -> tuple[float, float]:
        """Milliseconds that the page measured, and the server's share."""
        found = re.fullmatch(r"(\d+) ms, server ([\d.]+) ms", self.page.locator(".facts").first.inner_text())
        assert found is not None
        return float(found[1]), float(found[2])

    def shot(self, name: str, page: Page | None = None) -> None:
        (page or self.page).screenshot(path=self._shots / f"{name}.png", animations="disabled")

    def close(self) -> None:
        self.context.close()
