"""The token key in Redis: one for all servers that share the state, created by the first that needs it.

    GET -> there: that one
        -> nothing: SET NX of a new one, GET again: ours, or that of whoever was faster

It is looked at when the store opens and every few seconds from then on, off the path of any request: a Redis that lost
everything, or a replica that took over without the key, has another one from then on, which every server finds.
"""

from __future__ import annotations

import asyncio
import logging
from binascii import crc_hqx

from recserv.stores.redis_faults import Fault
from recserv.stores.redis_keys import SLOTS
from recserv.stores.redis_link import Argument
from recserv.stores.redis_router import Router
from recserv.stores.token_key import TOKEN_KEY_BYTES, new_token_key

_log = logging.getLogger(__name__)

_TAG = b"recserv"
KEY = b"{%b}:token-key" % _TAG
SLOT = crc_hqx(_TAG, 0) % SLOTS


class RedisTokenKey:
    """`value` is the newest that is known; `shared` tells whether it is that of the state."""

    def __init__(self, router: Router, check_s: float):
        self._router, self._check_s = router, check_s
        self.value = new_token_key()
        self.shared = False

    async def look(self) -> None:
        """Never raises for what Redis does: what cannot be read or made now is looked for again later."""
        try:
            found = await self._ask("GET", KEY)
            if found is None:
                await self._ask("SET", KEY, new_token_key(), "NX")
                found = await self._ask("GET", KEY)
        except Fault as fault:
            if not self.shared:
                _log.warning("the key of consistency tokens is not known yet: %s", fault)
            return
        if found is None:
            # Flushed between the two: the next look makes another one.
            return
        if not isinstance(found, bytes) or len(found) != TOKEN_KEY_BYTES:
            _log.error("%s does not hold a key of consistency tokens; delete it, and a new one is made", KEY.decode())
            return
        if self.shared and found != self.value:
            _log.warning("Redis has another key of consistency tokens: its state was lost or replaced")
        self.value, self.shared = found, True

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(self._check_s)
            await self.look()

    async def _ask(self, *args: Argument) -> object:
        write = args[0] != "GET"
        return await self._router.finish(SLOT, self._router.begin(SLOT, args, write=write), write=write)
