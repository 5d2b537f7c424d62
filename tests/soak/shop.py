"""A shop's traffic, made up: few enough shoppers and items that every store and cache of the server fills up early.

All of it follows from one seed, but for the order in which answers come back.
"""

from __future__ import annotations

import random
from itertools import count

from recserv import v1 as pb

# So few that their baskets and purchases are as long as they get soon after the prefill.
SESSIONS = 50
USERS = 10
ITEMS = 200
KINDS = (
    pb.EVENT_TYPE_VIEW,
    pb.EVENT_TYPE_VIEW,
    pb.EVENT_TYPE_CLICK,
    pb.EVENT_TYPE_ADD_TO_CART,
    pb.EVENT_TYPE_REMOVE_FROM_CART,
    pb.EVENT_TYPE_PURCHASE,
    pb.EVENT_TYPE_SEARCH,
    pb.EVENT_TYPE_RATE,
    pb.EVENT_TYPE_IMPRESSION,
    pb.EVENT_TYPE_DISLIKE,
)
CATEGORIES = ("", "", "Kitchen", "Garden/shovel", "Toys")
BROKEN_BYTES = (b"\xff\xff\xff\xff", b"\x0a\x05ab", b"\x0a\x02\xff\xfe", b"\x0b", b"")


class Shop:
    def __init__(self, seed: int = 1):
        self.random = random.Random(seed)
        self._numbers = count()

    def item(self) -> str:
        # Every hundredth or so is unknown to the model.
        return f"item-{self.random.randrange(ITEMS + 2)}"

    def session(self) -> str:
        return f"session-{self.random.randrange(SESSIONS)}"

    def user(self) -> str:
        return f"user-{self.random.randrange(USERS)}" if self.random.random() < 0.5 else ""

    def event(self) -> pb.Event:
        kind = self.random.choice(KINDS)
        event = pb.Event(
            event_id=f"e-{next(self._numbers)}", event_type=kind, session_id=self.session(), user_id=self.user()
        )
        if kind == pb.EVENT_TYPE_SEARCH:
            event.search_query = self.random.choice(["red lamp", "steel bowl", "nothing like it"])
        else:
            event.item_id = self.item()
        if kind == pb.EVENT_TYPE_RATE:
            event.value = self.random.randrange(6)
        if self.random.random() < 0.2:
            event.properties["campaign"] = f"c-{self.random.randrange(20)}"
        return event

    def group(self, events: int) -> pb.StreamEventsRequest:
        return pb.StreamEventsRequest(events=[self.event() for _ in range(events)])

    def recommend(self, explain: int = pb.EXPLAIN_MODE_REASONS) -> pb.RecommendRequest:
        chance = self.random.random
        request = pb.RecommendRequest(
            session_id=self.session(),
            user_id=self.user(),
            page_size=self.random.randrange(30),
            explain=explain,
            category=self.random.choice(CATEGORIES),
            return_items=chance() < 0.3,
        )
        if chance() < 0.2:
            request.anchor_item_ids.append(self.item())
        if chance() < 0.1:
            request.candidate_item_ids.extend(self.item() for _ in range(20))
        if chance() < 0.2:
            request.exclude_item_ids.extend(self.item() for _ in range(50))
        if chance() < 0.3:
            request.diversity = chance()
        if chance() < 0.3:
            request.context_events.add(event_type=pb.EVENT_TYPE_VIEW, item_id=self.item())
        return request

    def bad_call(self) -> tuple[str, bytes]:
        """Method and body of something that the server must refuse."""
        return self.random.choice(
            [
                ("Recommend", pb.RecommendRequest(page_size=-1, diversity=7.0).SerializeToString()),
                ("Recommend", pb.RecommendRequest(exclude_item_ids=["a\0b"] * 200).SerializeToString()),
                ("Recommend", pb.RecommendRequest(filter="price < 5").SerializeToString()),
                ("Recommend", b"\x0a" + b"\0" * (5 * 1024 * 1024)),
                ("IngestEvent", pb.IngestEventRequest(event=pb.Event(event_id="x" * 300)).SerializeToString()),
                ("BatchIngestEvents", pb.BatchIngestEventsRequest().SerializeToString()),
                ("GetContext", self.random.choice(BROKEN_BYTES)),
                ("GetExplanations", pb.GetExplanationsRequest(explanation_token="nobody's").SerializeToString()),
                ("NoSuchMethod", b""),
            ]
        )
