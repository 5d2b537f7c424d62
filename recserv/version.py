"""Versions of what is installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed(*packages: str) -> str:
    """The version of the first of these distributions that is installed; "unknown" for sources that nobody installed.
    Without any: recserv's own.
    """
    for package in packages or ("recserv",):
        try:
            return version(package)
        except PackageNotFoundError:
            continue  # the next one may be there
    return "unknown"
