"""The shopper's situation, coarse enough to be shared: explanations are written for it and cached by it.

    context, query -> newest items with their roles, newest search -> digest
    digest, item content, template reason -> key of a text (16 bytes)

The request path computes keys only. The input for a language model (`task`) is built later, from the same values:
nothing about a shopper reaches the model that is not part of the key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from recserv.config_llm import LlmSettings
from recserv.llm.base import ContextItem, ItemFacts, Situation, WritingTask
from recserv.model.items import ItemTable
from recserv.pipeline.context import Context, Role
from recserv.pipeline.explain import NAMELESS
from recserv.types import Item, Priority, RecommendQuery, Result

KEY_BYTES = 16
SEARCH_CHARS_MAX = 80
TOLD = {Role.VIEWED: "viewed", Role.IN_CART: "in the cart", Role.BOUGHT: "bought", Role.ANCHOR: "looking at"}
"""Roles that texts may mention. Older likes and removed items are private to the shopper."""
PLACEMENT_PRIORITY = {
    "cart": Priority.HIGH,
    "checkout": Priority.HIGH,
    "product": Priority.HIGH,
    "email": Priority.LOW,
    "batch": Priority.LOW,
}


Wanted = tuple[bytes, int, str]
"""Key, item row and template text of an item."""


class Asked(msgspec.Struct, frozen=True):
    """The situation of one Recommend, by rows of `items`, and what else its explanations need."""

    tenant: str
    locale: str
    tier: str
    priority: Priority
    items: ItemTable
    told: tuple[tuple[int, Role], ...]
    search: str
    digest: bytes

    def key(self, item_row: int, evidence: str) -> bytes:
        """Key of the text for the item at a row, recommended for a reason."""
        return hashlib.blake2b(
            self.digest + self.items.digest(item_row) + evidence.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES
        ).digest()

    def task(self, wanted: Sequence[Wanted]) -> WritingTask:
        """`wanted`: key, item row and template text of each item."""
        items = self.items
        situation = Situation(
            tuple(ContextItem(_named(items.get(item_row)), TOLD[role]) for item_row, role in self.told), self.search
        )
        return WritingTask(self.tenant, self.locale, self.tier, situation, tuple(_facts(items, *one) for one in wanted))


def _facts(items: ItemTable, key: bytes, item_row: int, evidence: str) -> ItemFacts:
    item = items.get(item_row)
    return ItemFacts(key, _named(item), item.brand, item.categories, item.description, evidence)


def _named(item: Item) -> str:
    """Name of a product. Never its id, which means nothing to a model and must not reach the provider."""
    return item.title or (item.categories[-1] if item.categories else NAMELESS)


def asked(
    query: RecommendQuery, context: Context, items: ItemTable, settings: LlmSettings, prompt_version: str
) -> Asked:
    """The situation behind an answer. Cheap, as it runs on the request path."""
    newest = settings.context_items_max
    item_rows = context.items.tolist()
    told = (
        [(item_row, role) for item_row, role in zip(item_rows, context.roles, strict=True) if role in TOLD][-newest:]
        if newest
        else []
    )
    search = context.search[0][:SEARCH_CHARS_MAX].casefold().strip() if context.search else ""
    parts = [query.tenant, query.locale, prompt_version, search]
    digest = hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES)
    for item_row, role in told:
        digest.update(items.digest(item_row) + bytes((role,)))
    return Asked(
        query.tenant,
        query.locale,
        tier_of(query, told, search, settings),
        priority_of(query, settings),
        items,
        tuple(told),
        search,
        digest.digest(),
    )


def tier_of(query: RecommendQuery, told: Sequence[tuple[int, Role]], search: str, settings: LlmSettings) -> str:
    """The placement's tier if the settings name one; else simple for unknown shoppers, complex for a high-priority
    request with several kinds of evidence, detailed otherwise.
    """
    named = settings.placement_tier.get(query.placement)
    if named is not None:
        return named
    if not told and not search:
        return "simple"
    rich = bool(search) + len({role for _, role in told}) > 1
    return "complex" if rich and priority_of(query, settings) is Priority.HIGH else "detailed"


def priority_of(query: RecommendQuery, settings: LlmSettings) -> Priority:
    """The request's priority, or its placement's if the request leaves it at normal."""
    if query.priority is not Priority.NORMAL:
        return query.priority
    named = settings.placement_priority.get(query.placement)
    return PLACEMENT_PRIORITY.get(query.placement, Priority.NORMAL) if named is None else Priority[named.upper()]


def templates(results: Sequence[Result]) -> list[str]:
    """The text that is shown until a better one is ready."""
    return [result.reasons[0].text if result.reasons else "" for result in results]
