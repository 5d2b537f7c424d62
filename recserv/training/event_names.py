"""What exports call their events: the usual words, those unrelated to products, and what the user said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from recserv.errors import UsageError
from recserv.types import EventType

IGNORE = "ignore"

_ALIASES = {
    EventType.VIEW: "view views pageview page_view detail product_view product_detail view_item item_view visit browse"
    " detail_page_view product_viewed view_product viewproduct viewcontent view_content pv product_page_view",
    EventType.CLICK: "click clicks clickout select_item product_clicked product_click",
    EventType.ADD_TO_CART: "add_to_cart addtocart cart carts add add_to_basket addtobasket basket product_added"
    " cart_add added_to_cart",
    EventType.REMOVE_FROM_CART: "remove_from_cart removefromcart remove remove_from_basket product_removed cart_remove",
    EventType.PURCHASE: "purchase purchased buy buys bought order orders transaction sale checkout conversion"
    " purchase_complete order_completed completed_order product_purchased placed_order",
    EventType.SEARCH: "search query searched products_searched view_search_results",
    EventType.RATE: "rate rating review product_reviewed",
    EventType.IMPRESSION: "impression impressions exposure show view_item_list product_list_viewed product_impression",
    EventType.DISLIKE: "dislike hide not_interested thumbs_down",
}
EVENT_TYPES: Mapping[str, EventType] = {name: kind for kind, names in _ALIASES.items() for name in names.split()}
"""What a file may call an event type, in lower case with underscores."""

_IGNORED = """
    begin_checkout checkout_started checkout_step_viewed checkout_step_completed add_payment_info add_shipping_info
    payment_info_entered view_cart cart_viewed shopping_cart_page_view home_page_view category_page_view
    refund order_refunded order_cancelled order_updated session_start session_end first_visit user_engagement scroll
    login sign_up view_promotion select_promotion promotion_viewed promotion_clicked product_list_filtered
    coupon_applied coupon_entered coupon_removed identify group file_download video_start form_start form_submit
"""
IGNORED = frozenset(_IGNORED.split())
"""Known to concern no product, or one that the shopper does not want after all."""


def key_of(name: str) -> str:
    return "_".join(name.strip().lower().replace("-", " ").replace("_", " ").split()).removeprefix("event_type_")


def parse_event_type(name: str) -> EventType | None:
    """None for a name that is no event type."""
    return EVENT_TYPES.get(key_of(name))


class EventNames:
    """The usual words and, before them, `told`: event type or `ignore` by name. Raises UsageError for another type."""

    def __init__(self, told: Mapping[str, str] | None = None):
        self._told = {key_of(name): _told_type(name, kind) for name, kind in (told or {}).items()}

    def taken_as(self, name: str) -> EventType | None:
        """UNSPECIFIED: to be ignored; None: unknown."""
        key = key_of(name)
        if key in self._told:
            return self._told[key]
        if key in IGNORED:
            return EventType.UNSPECIFIED
        return EVENT_TYPES.get(key)


def _told_type(name: str, kind: str) -> EventType:
    if key_of(kind) == IGNORE:
        return EventType.UNSPECIFIED
    found = parse_event_type(kind)
    if found is None:
        known = ", ".join(sorted(each.name.lower() for each in EventType if each))
        raise UsageError(f"--event-type {name}={kind}: neither an event type nor {IGNORE}; known are {known}")
    return found


def parse_event_types(given: Iterable[str]) -> dict[str, str]:
    """`NAME=TYPE` strings. Raises UsageError."""
    types: dict[str, str] = {}
    for pair in given:
        name, equals, kind = pair.rpartition("=")
        if not equals or not name or not kind:
            raise UsageError(f"--event-type {pair}: expected NAME=TYPE or NAME={IGNORE}")
        types[name] = kind
    EventNames(types)
    return types
