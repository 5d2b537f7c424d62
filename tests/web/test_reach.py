"""Whoever comes, and whatever the catalogue holds: keyboard, phone, dark, hostile titles."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from recserv.app.server_process import ServerProcess
from tests.patience import eventually
from tests.web.browser import PHONE, Look, looking
from tests.web.contrast import CONTRAST
from tests.web.shop_model import FOREIGN_IMAGES, HOSTILE, LONG, MARKUP, OWN_IMAGE, RIGHT_TO_LEFT

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.web
VIEWS = ("", "#/item/item-7", "#/search/bowl", "#/category/Garden", "#/cart", "#/knows")


def focused(look: Look) -> str:
    """What somebody at the keyboard is at: its name, and nothing if it does not show."""
    found: str = look.page.evaluate(
        """() => {
          const at = document.activeElement;
          const style = getComputedStyle(at);
          const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
          return seen ? (at.getAttribute("aria-label") || at.innerText || at.id || at.tagName).trim() : "";
        }"""
    )
    return found


def tab_to(look: Look, wanted: str, most: int = 200) -> None:
    for _ in range(most):
        look.page.keyboard.press("Tab")
        if wanted in focused(look):
            return
    raise AssertionError(f"the keyboard does not reach {wanted}")


def test_everything_is_reached_by_keyboard_alone(look: Look) -> None:
    page, keys, cold = look.page, look.page.keyboard, look.ids()
    keys.press("Tab")
    assert focused(look) == "To the products"
    look.shot("keyboard-skip-link")
    keys.press("Enter")
    tab_to(look, "Add to cart: ")
    look.shot("keyboard-focus")
    keys.press("Enter")
    look.cart_is(1)
    look.changes(cold)
    page.locator("#search-text").focus()
    keys.type("bowl")
    keys.press("Enter")
    page.wait_for_selector("main[data-view=search]")
    # The view that was opened has the focus, so that it is read out and the next key goes on from there.
    eventually(lambda: page.evaluate("document.activeElement.tagName") == "H1", "the heading has the focus")
    tab_to(look, "bowl")
    keys.press("Enter")
    page.wait_for_selector("main[data-view=item]")
    tab_to(look, "Compare")
    keys.press("Space")
    page.wait_for_selector('[data-column="B"] .entry')
    page.locator("#search-text").focus()
    tab_to(look, "Cart")
    keys.press("Enter")
    page.wait_for_selector("#buy")
    tab_to(look, "Buy it")
    keys.press("Enter")
    look.cart_is(0)


def test_nothing_that_can_be_pressed_is_without_a_name_and_landmarks_are_there(look: Look) -> None:
    page = look.page
    for view in VIEWS:
        look.open(view)
        unnamed = page.locator("a, button, input, select").evaluate_all(
            """(all) => all
              .filter((one) => !(one.textContent.trim() || one.getAttribute("aria-label") || one.labels?.length))
              .map((one) => one.outerHTML)"""
        )
        assert unnamed == [], view
        assert page.locator("h1").count() == 1, view
    for landmark in ("banner", "search", "main", "complementary"):
        assert page.get_by_role(landmark).count() == 1, landmark  # type: ignore[arg-type]
    assert page.locator('#said[aria-live="polite"]').count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_it_is_one_column_without_sideways_scrolling(
    open_look: Callable[..., Look], url: str, scheme: str
) -> None:
    look = open_look(url, size=PHONE, color_scheme=scheme)
    page = look.page
    page.click(".card .primary >> nth=8")
    look.cart_is(1)
    for view in VIEWS:
        look.open(view)
        wide = page.evaluate("document.scrollingElement.scrollWidth")
        assert wide <= PHONE[0], view
        look.shot(f"phone-{scheme}-{view.strip('#/').split('/')[0] or 'home'}")
    main, aside = page.locator("main").bounding_box(), page.locator("aside").bounding_box()
    assert main is not None
    assert aside is not None
    assert aside["y"] >= main["y"] + main["height"]
    page.click("#jump")
    eventually(page.locator(".entry").first.is_visible, "the list is shown")
    look.shot(f"phone-{scheme}-list")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_enough_to_be_read(open_look: Callable[..., Look], url: str, scheme: str) -> None:
    look = open_look(url, color_scheme=scheme)
    page, cold = look.page, look.ids()
    page.click(".card .primary >> nth=8")
    look.changes(cold)
    page.click("#compare")
    page.wait_for_selector('[data-column="B"] .tag.only')
    for view in VIEWS:
        look.open(view) if view else look.settled()
        page.emulate_media(reduced_motion="reduce")
        assert page.evaluate(CONTRAST) == [], view
        look.shot(f"wide-{scheme}-{view.strip('#/').split('/')[0] or 'home'}")


def test_whoever_wants_no_motion_sees_none(open_look: Callable[..., Look], url: str) -> None:
    look = open_look(url, reduced_motion="reduce")
    cold = look.ids()
    look.page.evaluate("() => { Element.prototype.animate = () => { throw new Error('moves') } }")
    look.page.locator(".card-link").nth(8).click()
    look.changes(cold)


def test_hostile_titles_are_text(look: Look) -> None:
    page = look.page
    for item_id, title in HOSTILE.items():
        look.open(f"#/item/{item_id}")
        page.wait_for_selector(f'.product [data-add="{item_id}"]')
        assert page.locator("h1").text_content() == title
        assert page.title() != "owned"
        assert page.locator(".product .brand").text_content() == MARKUP
        assert page.evaluate("document.scrollingElement.scrollWidth") <= page.evaluate("innerWidth")
        look.shot(f"hostile-{item_id}")
    assert page.locator("main script, main b img, main svg, main i").count() == 0
    assert page.evaluate("document.querySelectorAll('script').length") == 1
    look.open()
    shown = page.locator(".title").all_text_contents()
    assert LONG in shown
    tallest = max(box["height"] for card in page.locator(".card").all() if (box := card.bounding_box()))
    assert tallest < 500
    right_to_left = page.locator(".card .title", has_text=RIGHT_TO_LEFT[:6])
    assert right_to_left.evaluate("(title) => getComputedStyle(title).direction") == "rtl"
    # An image of the catalogue's own bytes is shown, one of another host or of none is not.
    assert [image.get_attribute("src") for image in page.locator(".card .picture img").all()] == [OWN_IMAGE]
    look.shot("hostile-home")


def test_images_of_other_hosts_are_asked_for_only_where_they_are_allowed(
    open_look: Callable[..., Look], server: ServerProcess
) -> None:
    def no_such_host(page: Page) -> None:
        page.route("https://images.invalid/**", lambda route: route.abort())

    with looking("--target", server.target, "--images") as url:
        look = open_look(url, prepare=no_such_host)
        eventually(look.foreign, "the image is asked for")
        assert set(look.foreign()) == {FOREIGN_IMAGES["item-27"]}
        picture = look.page.locator('.card[data-id="item-27"] .picture')
        eventually(lambda: picture.inner_text() == "IS", "an image that does not come leaves the initials")
        assert set(look.complaints) == {"error: Failed to load resource: net::ERR_FAILED"}
        look.asked.clear()
        look.complaints.clear()
        look.close()


def test_hostile_words_of_the_shopper_are_text(look: Look) -> None:
    page = look.page
    page.fill("#search-text", MARKUP)
    page.keyboard.press("Enter")
    page.wait_for_selector("main[data-view=search]")
    assert page.locator("h1").text_content() == f"“{MARKUP}”"
    look.open("#/knows")
    assert page.locator(".searches li").all_text_contents() == [MARKUP]
    look.open("#/item/%E0%A4%A")
    assert page.locator("h1").inner_text() == "Popular in this shop"
