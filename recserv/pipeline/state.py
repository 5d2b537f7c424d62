"""The state stage: reads a shopper's stored state, within its share of the budget, and checks the consistency token."""

from __future__ import annotations

from recserv.errors import DeadlineTooNear, StoreUnavailable
from recserv.pipeline.guarded_store import GuardedStore
from recserv.pipeline.settings import PipelineSettings
from recserv.pipeline.tokens import decode_token
from recserv.pipeline.trace import Trace
from recserv.resilience.deadline import Deadline
from recserv.types import DegradedReason, RecommendQuery, ShopperKey, ShopperState

NOTHING_STORED = ShopperState()


class StateStage:
    """`store` None: there is never any stored state."""

    def __init__(self, store: GuardedStore | None, settings: PipelineSettings):
        self._store, self._settings = store, settings

    async def of_query(self, query: RecommendQuery, deadline: Deadline, trace: Trace) -> ShopperState:
        """The stored state; labelled STALE_STATE if it does not reflect the event of the consistency token, or did not
        issue the token. Waiting would not help: an event is visible before it is acknowledged, so an event that the
        newest read lacks is lost, or belongs to another state, or never existed. Raises InvalidInput for text that is
        not a token.
        """
        key = ShopperKey(query.session_id, query.user_id)
        token = decode_token(query.consistency_token) if query.consistency_token else None
        if self._store is None or not (key.session_id or key.user_id):
            return NOTHING_STORED
        try:
            [state] = await self._store.read(query.tenant, (key,), deadline.share_s(self._settings.state_share))
        except (TimeoutError, StoreUnavailable):
            trace.degrade(DegradedReason.STATE_UNAVAILABLE)
            return NOTHING_STORED
        if token is not None and not (
            token.made_with(self._store.token_key) and token.reflected_in(state, query.tenant, key)
        ):
            trace.degrade(DegradedReason.STALE_STATE)
        return state

    async def of_shopper(self, tenant: str, key: ShopperKey, deadline: Deadline) -> ShopperState:
        """Raises StoreUnavailable or DeadlineTooNear: there is nothing to degrade to."""
        if self._store is None:
            raise StoreUnavailable("this server keeps no state")
        try:
            [state] = await self._store.read(tenant, (key,), deadline.share_s(1.0))
        except TimeoutError as error:
            raise DeadlineTooNear("the stored state was not read in time") from error
        return state
