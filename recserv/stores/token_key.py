"""The key that consistency tokens are made with, kept with the state: a state that was lost has another one.

`StateStore.token_key` is never waited for: until the state's own is known, or where it cannot be kept, a key of this
process alone serves. Tokens are then of no use beyond the process, where they count as outlived.
"""

from __future__ import annotations

import secrets

TOKEN_KEY_BYTES = 32


def new_token_key() -> bytes:
    return secrets.token_bytes(TOKEN_KEY_BYTES)
