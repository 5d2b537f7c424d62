"""What an event of each type says for its item: a row for each type, a column for each of three questions.

    learned   to a build: of past sessions, how much do two items belong together, how popular is one?
    context   to a request: of what the shopper does now, how much should the answer go by this item?
    taste     to a profile, for weeks: how much does the user care for it?

The columns differ on purpose, most of all for a purchase. Nothing is surer evidence that items belong together than
that they were bought, so it counts three views where a model learns. In a session that goes on it ends a need: the
answer goes by it more than by a view, and less than by what lies in the cart and is still to be decided. And it is what
a user is known by longest. One number for all three was never measured; any change of `context` changes answers, and of
`learned` the next model.

Not part of the table, because they go by more than the type: recency and place (pipeline/context.py), the stars of a
rating in `taste` (stores/state.py).
"""

from __future__ import annotations

from typing import NamedTuple

from recserv.types import EventType


class EventWeight(NamedTuple):
    """Relative to a view. `learned` 0: no part of the sequences that a model learns from. `context` 0: no part of the
    context; below zero: the item is put away, and so is what is near it. `taste` below zero: only its sign counts.
    """

    learned: float = 0.0
    context: float = 0.0
    taste: float = 0.0


EVENT_WEIGHTS: dict[EventType, EventWeight] = {
    EventType.VIEW: EventWeight(learned=1.0, context=1.0, taste=1.0),
    EventType.CLICK: EventWeight(learned=1.0, context=1.0, taste=2.0),
    EventType.ADD_TO_CART: EventWeight(learned=2.0, context=2.0, taste=4.0),
    EventType.REMOVE_FROM_CART: EventWeight(context=-0.3),
    EventType.PURCHASE: EventWeight(learned=3.0, context=1.5, taste=8.0),
    EventType.SEARCH: EventWeight(context=1.5),
    EventType.RATE: EventWeight(learned=1.0, context=1.0),
    # As large as any taste, so that many views do not push it out.
    EventType.DISLIKE: EventWeight(context=-1.0, taste=-8.0),
}
