"""The page under /look/: files of the package, read once at start, with headers that let nothing else in.

The browser runs no script and applies no style but these files, and contacts no host but this one. Titles, reasons and
all else that comes from a catalogue are set as text by the page itself; `trusted-types 'none'` turns any other way into
an error. A catalogue's `image_uri` would make the viewer's browser contact foreign hosts, so it is used only with
`images`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from importlib import resources

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from recserv.gateway.answers import JSON
from recserv.gateway.openapi import WATCH_PATH

PAGE_PREFIX = "/look"
COMPARE_PREFIX = "/compare"
"""Below it are the paths of the second server."""
_FOLDER = "page"
_INDEX = "index.html"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self' data:",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}

Endpoint = Callable[[Request], Awaitable[Response]]


def page_files() -> dict[str, bytes]:
    """Contents by file name."""
    folder = resources.files(__package__).joinpath(_FOLDER)
    return {file.name: file.read_bytes() for file in folder.iterdir() if _suffix(file.name) in _TYPES}


def page_routes(api: Iterable[BaseRoute], *, images: bool, compares: bool) -> list[Route]:
    """`api`: the other routes; the page is told which of them it can use."""
    files = page_files()
    headers = {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _policy(images).items()),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
    }
    watches = any(isinstance(route, Route) and route.path == WATCH_PATH for route in api)
    config = msgspec.json.encode({"images": images, "compares": compares, "watches": watches})
    answers = {
        "": (files[_INDEX], _TYPES[".html"]),
        "config.json": (config, JSON),
        **{name: (content, _TYPES[_suffix(name)]) for name, content in files.items() if name != _INDEX},
    }
    return [
        Route(PAGE_PREFIX, _to_the_page, methods=["GET"]),
        *[
            Route(f"{PAGE_PREFIX}/{name}", _always(*answer, headers), methods=["GET"])
            for name, answer in answers.items()
        ],
    ]


def _policy(images: bool) -> dict[str, str]:
    return {**_POLICY, "img-src": f"{_POLICY['img-src']} https:"} if images else _POLICY


def _suffix(name: str) -> str:
    return "." + name.rpartition(".")[2]


async def _to_the_page(_: Request) -> Response:
    # Relative: there may be a prefix before it that only a proxy knows.
    return RedirectResponse(f"{PAGE_PREFIX[1:]}/", 308)


def _always(content: bytes, kind: str, headers: dict[str, str]) -> Endpoint:
    async def answer(_: Request) -> Response:
        return Response(content, 200, {**headers, "Content-Type": kind})

    return answer
