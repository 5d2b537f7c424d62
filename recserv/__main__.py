"""`python -m recserv` is `recserv`."""

from __future__ import annotations

import sys

from recserv.cli import main

sys.exit(main())
