"""Answers that are late, out of order, or refused: the page shows the newest, and loses and doubles nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.patience import HANG_GUARD_S, eventually
from tests.web.browser import Look
from tests.web.test_faults import expected

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = pytest.mark.web
EVENTS, CONTEXT, RECOMMEND = "**/api/v1/events", "**/GetContext", "**/Recommend"
REFUSAL = {"error": {"code": 14, "status": "UNAVAILABLE", "message": "gone"}}


class Held:
    """Requests that are answered when the test says so; with the answer of the moment at which they came."""

    def __init__(self, page: Page, pattern: str):
        self._waiting: list[tuple[Route, Any]] = []
        self.open = False
        page.route(pattern, self._hold)

    def __len__(self) -> int:
        return len(self._waiting)

    def _hold(self, route: Route) -> None:
        if self.open:
            route.continue_()
        else:
            self._waiting.append((route, route.fetch()))

    def release(self, place: int) -> None:
        route, response = self._waiting.pop(place)
        route.fulfill(response=response)


def wait_for(look: Look, held: Held, count: int) -> None:
    def there() -> bool:
        look.page.evaluate("0")
        return len(held) >= count

    eventually(there, f"{count} requests are held")


def posted(look: Look) -> list[dict[str, Any]]:
    """The events that the page sends from now on."""
    events: list[dict[str, Any]] = []
    look.page.on("request", lambda asked: asked.url.endswith("/events") and events.append(asked.post_data_json))
    return events


def stored(look: Look) -> int:
    look.open("#/knows")
    look.page.reload()
    look.page.wait_for_selector("#event-count")
    return int(look.page.locator("#event-count").inner_text())


def test_of_two_contexts_the_one_that_was_asked_for_last_counts(look: Look) -> None:
    page = look.page
    held = Held(page, CONTEXT)
    for count in (1, 2):
        page.locator(".card .primary").nth(7 + count).click()
        wait_for(look, held, count)
    held.release(1)
    look.cart_is(2)
    with page.expect_response(CONTEXT):
        held.release(0)
    page.wait_for_function(
        "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"
    )
    assert page.locator("#cart-count").inner_text() == "2"


def test_of_two_lists_the_one_that_was_asked_for_last_counts(look: Look) -> None:
    page, cold = look.page, look.ids()
    held = Held(page, RECOMMEND)
    for count in (1, 2):
        page.locator(".card .primary").nth(7 + count).click()
        wait_for(look, held, count)
    held.release(1)
    newest = eventually_other(look, cold)
    held.open = True
    with page.expect_response(RECOMMEND):
        held.release(0)
    look.settled()
    assert look.ids() == newest


def eventually_other(look: Look, before: list[str]) -> list[str]:
    eventually(lambda: look.ids() != before, "the list changes")
    return look.ids()


def test_what_this_page_did_is_not_told_as_somebody_elses_however_late_its_own_answer_is(look: Look) -> None:
    page, cold = look.page, look.ids()
    assert look.watches()
    page.evaluate(
        """() => import(new URL("lists.js", location.href)).then(({ Column }) => {
          window.came = [];
          const take = Column.prototype.take;
          Column.prototype.take = function (answer, heard) {
            take.call(this, answer, heard);
            window.came = answer.results.map((result) => result.itemId);
          };
        })"""
    )
    held = Held(page, RECOMMEND)
    page.locator(".card .primary").nth(8).click()
    wait_for(look, held, 1)
    eventually(lambda: page.evaluate("window.came") not in ([], cold), "the stream tells of the event")
    asked = len(held)
    held.release(0)
    assert look.changes(cold)
    assert page.locator("#after").inner_text().startswith("After: put into the cart")
    # It was the same list: it is not asked for once more.
    assert (asked, len(held)) == (1, 0)


def test_the_second_list_follows_events_from_elsewhere_too(look: Look) -> None:
    page = look.page
    assert look.watches()
    page.click("#compare")
    page.wait_for_selector('[data-column="B"] .entry')
    look.settled()
    first, second = look.ids(), look.ids("B")
    session = page.evaluate("JSON.parse(localStorage.getItem('recserv-look-shopper')).sessionId")
    event = {"eventId": "e-elsewhere", "eventType": "EVENT_TYPE_VIEW", "sessionId": session, "itemId": "item-30"}
    httpx.post(look.url.replace("look/", "api/v1/events"), json=event, timeout=HANG_GUARD_S).raise_for_status()
    look.changes(first)
    look.changes(second, "B")


def refuse_events(page: Page) -> Callable[[], None]:
    page.route(EVENTS, lambda route: route.fulfill(status=503, json=REFUSAL))
    return lambda: page.unroute(EVENTS)


def test_each_event_that_was_not_stored_can_be_sent_again_also_after_one_that_was(look: Look) -> None:
    page, sent = look.page, posted(look)
    notice = page.locator('.notice[data-key="event"]')
    allow = refuse_events(page)
    page.locator(".card .primary").nth(8).click()
    notice.get_by_text("This was not stored").wait_for()
    page.locator(".card .primary").nth(9).click()
    notice.get_by_text("2 events were not stored").wait_for()
    allow()
    page.locator(".card .primary").nth(10).click()
    look.cart_is(1)
    notice.get_by_role("button", name="Send them again").click()
    look.cart_is(3)
    eventually(lambda: notice.count() == 0, "nothing is left to be sent")
    # Each under its own id, however often it was sent.
    assert len({event["eventId"] for event in sent}) == 3
    assert stored(look) == 3
    expected(look)


def test_what_was_not_stored_is_not_told_as_noted(look: Look) -> None:
    page = look.page
    refuse_events(page)
    card = page.locator(".card").nth(8)
    card.get_by_role("button", name="Not for me").click()
    page.wait_for_selector('.notice[data-key="event"]')
    look.settled()
    assert card.get_by_text("Noted").count() == 0
    expected(look)


def test_an_order_is_bought_once_though_its_button_is_drawn_anew_meanwhile(look: Look) -> None:
    page, sent = look.page, posted(look)
    for place in (8, 9):
        page.locator(".card .primary").nth(place).click()
    look.cart_is(2)
    page.click("[data-view=cart]")
    page.wait_for_selector("#buy")
    held = Held(page, EVENTS)
    page.click("#buy")
    wait_for(look, held, 1)
    held.release(0)
    wait_for(look, held, 1)
    look.cart_is(1)
    eventually(lambda: page.locator(".line").count() == 1, "the first line is gone")
    assert page.locator("#buy").is_disabled()
    held.release(0)
    look.cart_is(0)
    assert [event["eventType"] for event in sent].count("EVENT_TYPE_PURCHASE") == 2


def test_a_double_click_is_one_event(look: Look) -> None:
    page, sent = look.page, posted(look)
    page.locator(".card .primary").nth(8).dblclick()
    look.cart_is(1)
    look.settled()
    assert stored(look) == len(sent) == 1


def test_what_is_being_typed_survives_an_event_from_elsewhere(look: Look) -> None:
    page = look.page
    look.open("#/knows")
    page.reload()
    page.wait_for_selector("#event-count")
    page.fill("#user-id", "half a na")
    session = page.locator("#session-id").input_value()
    event = {"eventId": "e-typed", "eventType": "EVENT_TYPE_VIEW", "sessionId": session, "itemId": "item-30"}
    httpx.post(look.url.replace("look/", "api/v1/events"), json=event, timeout=HANG_GUARD_S).raise_for_status()
    eventually(lambda: page.locator("#event-count").inner_text() == "1", "the view is drawn anew")
    assert page.locator("#user-id").input_value() == "half a na"
    page.click("#new-shopper")
    eventually(lambda: page.locator("#user-id").input_value() == "", "another shopper's is another form")


def test_a_stream_that_was_refused_is_opened_again(open_look: Callable[..., Look], url: str) -> None:
    """An EventSource that is answered with a status gives up by itself."""
    refused: list[str] = []

    def refuse(route: Route) -> None:
        refused.append(route.request.url)
        route.fulfill(status=503, body=json.dumps(REFUSAL), content_type="application/json")

    def prepare(page: Page) -> None:
        page.route("**/api/v1/watch?*", refuse)

    look = open_look(url, prepare=prepare)
    page = look.page
    eventually(lambda: (page.evaluate("0"), refused)[1], "it is refused")
    with page.expect_response(lambda answer: "/api/v1/watch" in answer.url and answer.status == 200):
        page.unroute("**/api/v1/watch?*")
    expected(look)


def test_a_product_is_unknown_only_where_the_server_says_so(look: Look) -> None:
    page = look.page
    page.route(RECOMMEND, lambda route: route.fulfill(status=503, json=REFUSAL))
    page.goto(f"{look.url}#/item/item-150")
    page.wait_for_selector('.notice[data-key="view"]')
    assert page.locator("h1").inner_text() == "No answer"
    page.unroute(RECOMMEND)
    page.wait_for_selector('.product [data-add="item-150"]')
    assert page.get_by_text("does not know this product").count() == 0
    expected(look)
    page.goto(f"{look.url}#/item/none-such")
    page.get_by_text("does not know this product").wait_for()
