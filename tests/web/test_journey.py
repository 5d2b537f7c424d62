"""One shopper's way through the shop: the list answers each step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.llm.servers import llm_server, provider_process
from tests.patience import HANG_GUARD_S, PATIENT_SERVER, eventually
from tests.web.browser import Look, looking

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = pytest.mark.web


def test_from_cold_start_to_a_purchase_the_list_answers_each_step(look: Look) -> None:
    page = look.page
    cold = look.ids()
    assert len(cold) == 10
    assert set(look.kinds().values()) == {"same"}
    assert page.locator(".entry .tag").first.inner_text() in ("popular", "trending")
    look.shot("1-cold-start")

    # Without hostile titles: those have tests of their own.
    page.locator(".card:not(:has(img)) .card-link").nth(8).click()
    page.wait_for_selector("main[data-view=item]")
    viewed = look.changes(cold)
    assert "new" in set(look.kinds().values())
    assert look.gone()
    assert "new" in look.said()
    # What whoever hears the page is told is to be seen, too.
    assert page.locator("#moved").inner_text() in look.said()
    assert page.locator("#after").inner_text().startswith("After: looked at ")
    assert page.locator("main .grid .card").count() == 6
    took_ms, server_ms = look.facts()
    assert 0 < server_ms <= took_ms + 1
    look.shot("2-view")

    page.fill("#search-text", "kettle")
    page.keyboard.press("Enter")
    page.wait_for_selector("main[data-view=search]")
    searched = look.changes(viewed)
    assert "kettle" in page.locator(".card .title").first.inner_text().lower()
    assert 'your search "kettle"' in page.locator(".entry .why").first.inner_text()
    look.shot("3-search")

    added = page.locator(".card").first.get_attribute("data-id")
    page.locator(".card .primary").first.click()
    look.cart_is(1)
    carted = look.changes(searched)
    assert page.locator(".card .primary").first.inner_text() == "In the cart"
    page.click("[data-view=cart]")
    page.wait_for_selector("#buy")
    assert page.locator(".line").get_attribute("data-id") == added
    look.shot("4-cart")

    page.click("#buy")
    look.cart_is(0)
    page.wait_for_selector('.notice[data-key="bought"]')
    whys = page.locator(".entry .why")
    eventually(lambda: "you bought" in " ".join(whys.all_inner_texts()), "the list knows of the purchase")
    look.settled()
    assert added not in look.ids()
    assert carted
    page.wait_for_selector(".empty")
    look.shot("5-purchase")

    page.click("[data-view=knows]")
    page.wait_for_selector(".panels")
    assert page.locator("#event-count").inner_text() == "4"
    assert page.locator("caption", has_text="Bought (1)").count() == 1
    assert page.locator(".searches li").all_inner_texts() == ["kettle"]
    assert page.locator(".bar").count() > 0
    look.shot("6-what-it-knows")


def test_an_event_names_the_answer_that_it_was_clicked_in(look: Look) -> None:
    page, cold = look.page, look.ids()
    events: list[Any] = []
    page.on("request", lambda asked: asked.url.endswith("/events") and events.append(asked.post_data_json))
    shown = [
        page.locator(f"{place} [data-answer]").first.get_attribute("data-answer") for place in ("main", "#columns")
    ]
    assert len({*shown, None, ""}) == 4, "two answers with ids of their own"

    # In both: it is the place of the click that counts.
    both = next(item for item in cold if page.locator(f'main [data-id="{item}"]').count())
    page.locator(f'main [data-id="{both}"] .primary').click()
    look.changes(cold)
    aside = page.locator("#columns [data-answer]").first
    answered, item = aside.get_attribute("data-answer"), aside.get_attribute("data-id")
    aside.locator("a").click()
    page.wait_for_selector("main[data-view=item]")
    eventually(lambda: len(events) == 2, "a cart and a view")
    page.locator(".product .primary").click()
    look.cart_is(2)
    named = [(event["eventType"], event["itemId"], event["recommendationId"]) for event in events]
    assert named == [
        ("EVENT_TYPE_ADD_TO_CART", both, shown[0]),
        ("EVENT_TYPE_VIEW", item, answered),
        ("EVENT_TYPE_ADD_TO_CART", item, answered),
    ]


def test_what_was_bought_is_gone_from_the_list_that_had_it(look: Look) -> None:
    page, first = look.page, look.ids()[0]
    page.goto(f"{look.url}#/item/{first}")
    page.wait_for_selector(f'main [data-add="{first}"]')
    page.click(f'.product [data-add="{first}"]')
    look.cart_is(1)
    page.click("[data-view=cart]")
    page.click("#buy")
    look.cart_is(0)
    eventually(lambda: first not in look.ids(), "it is gone")


def test_what_was_taken_out_and_what_is_not_wanted(look: Look) -> None:
    page = look.page
    page.locator(".card .primary").nth(9).click()
    look.cart_is(1)
    page.click("[data-view=cart]")
    page.get_by_role("button", name="Remove").click()
    look.cart_is(0)
    page.wait_for_selector(".empty")
    page.click(".views [data-view=shop]")
    unwanted = look.ids()[0]
    page.goto(f"{look.url}#/item/{unwanted}")
    page.wait_for_selector(f'.product [data-add="{unwanted}"]')
    page.locator(".product").get_by_role("button", name="Not for me").click()
    eventually(lambda: unwanted not in look.ids(), "it is not recommended again")


def test_a_category_shows_its_products(look: Look) -> None:
    page = look.page
    page.get_by_role("link", name="Garden", exact=True).click()
    page.wait_for_selector("main[data-view=category]")
    assert page.locator("h1").inner_text() == "Garden"
    shown = page.locator(".card").evaluate_all("cards => cards.map((card) => Number(card.dataset.id.slice(5)) % 5)")
    assert set(shown) == {1}
    assert page.locator('.chip[aria-current="page"]').inner_text() == "Garden"


def test_the_same_shopper_is_there_after_a_reload_and_a_new_one_is_unknown(look: Look) -> None:
    page, cold = look.page, look.ids()
    page.locator(".card-link").nth(7).click()
    known = look.changes(cold)
    look.open("#/knows")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert look.ids() == known
    session = page.locator("#session-id").input_value()
    page.click("#new-shopper")
    eventually(lambda: page.locator("#session-id").input_value() != session, "another session")
    assert look.changes(known) == cold
    page.fill("#session-id", session)
    page.get_by_role("button", name="Take these").click()
    assert look.changes(cold) == known


def test_explanations_arrive_when_they_are_ready(open_look: Callable[..., Look], shop: Path, tmp_path: Path) -> None:
    with (
        provider_process("--delay-ms", "1500") as base_url,
        llm_server(shop, tmp_path / "llm", base_url, flags=PATIENT_SERVER) as server,
        looking("--target", server.target) as url,
    ):
        look = open_look(url)
        page = look.page
        page.locator(".card-link").nth(8).click()
        page.wait_for_selector('.text[data-state="pending"]')
        look.shot("explanations-pending")
        page.wait_for_selector('.text[data-state="ready"]')
        assert page.locator('.text[data-state="ready"]').first.inner_text() == "Chosen for your kitchen"
        eventually(lambda: page.locator('.text[data-state="pending"]').count() == 0, "all are written")
        look.shot("explanations-ready")
        look.close()


def test_an_event_from_elsewhere_moves_the_list(open_look: Callable[..., Look], url: str) -> None:
    """The stream is played here: whether the server has one is not this page's matter."""
    api = url.removesuffix("look/")
    event = {"eventId": "e-1", "eventType": "EVENT_TYPE_VIEW", "sessionId": "another", "itemId": "item-30"}
    httpx.post(f"{api}api/v1/events", json=event, timeout=HANG_GUARD_S).raise_for_status()
    wanted = {"session_id": "another", "return_items": "true", "page_size": "10"}
    response = httpx.get(f"{api}api/v1/recommendations", params=wanted, timeout=HANG_GUARD_S).json()
    told = json.dumps({"response": response, "resumeToken": "t-1"})
    asked: list[str] = []

    def play(route: Route) -> None:
        asked.append(route.request.url)
        body = f"id: t-1\nevent: recommendations\ndata: {told}\n\n"
        route.fulfill(status=200, content_type="text/event-stream", body=body)

    def prepare(page: Page) -> None:
        page.route("**/look/config.json", lambda route: route.fulfill(json={"watches": True, "compares": False}))
        page.route("**/api/v1/watch?*", play)

    look = open_look(url, prepare=prepare)
    page = look.page
    expected = [result["itemId"] for result in response["results"]]
    eventually(lambda: look.ids() == expected, "the list is the one that came")
    assert "session_id=look-" in asked[0]
    assert page.locator(".facts").first.inner_text() == "came by itself"
    assert page.locator("#after").inner_text() == "After: an event from elsewhere"


def test_a_second_tab_follows_the_first_where_the_gateway_watches(look: Look) -> None:
    cold, other = look.ids(), look.tab()
    look.open(page=other)
    # A tab that was never in front has a list, too.
    assert look.ids(page=other) == cold
    other.wait_for_load_state()
    look.page.locator(".card-link").nth(8).click()
    viewed = look.changes(cold)
    if not look.watches():
        # Without a stream it stays as it is, and says nothing of that.
        assert look.ids(page=other) == cold
        return
    eventually(lambda: look.ids(page=other) == viewed, "the other tab follows")
    assert other.locator("#after").inner_text() == "After: an event from elsewhere"
    # What the page did itself is not told as somebody else's.
    assert look.page.locator("#after").inner_text().startswith("After: looked at ")
    assert "new" in look.kinds().values()
