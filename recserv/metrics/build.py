"""Which build runs."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def build_labels() -> dict[str, str]:
    """Labels of recserv_build_info."""
    return {"version": _version("recserv"), "python": platform.python_version(), "grpcio": _version("grpcio")}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        # Run from sources that nobody installed.
        return "unknown"
