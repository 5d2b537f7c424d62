"""Run as a program: `recserv serve` on a store whose `synchronous` is lowered, which no setting can do.

python -m tests.durability.lowered_server SYNCHRONOUS ARGUMENTS_OF_SERVE...
"""

from __future__ import annotations

import functools
import sys

from recserv import cli
from recserv.app import store

if __name__ == "__main__":
    store.EmbeddedStore = functools.partial(store.EmbeddedStore, _synchronous=sys.argv[1])  # type: ignore[assignment,misc]
    sys.exit(cli.main(["serve", *sys.argv[2:]]))
