"""Versions of what is installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed(package: str = "recserv") -> str:
    """As its distribution says; "unknown" for sources that nobody installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
