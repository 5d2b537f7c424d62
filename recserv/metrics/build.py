"""Which build runs."""

from __future__ import annotations

import platform
from functools import cache

from recserv.version import installed


@cache
def build_labels() -> dict[str, str]:
    """Labels of recserv_build_info."""
    return {"version": installed(), "python": platform.python_version(), "grpcio": installed("grpcio")}
