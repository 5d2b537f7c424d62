"""Recommended products as HTML, for clients that show a page or answer but cannot draw a list: chats, workflow tools.

    GET /card              a page of its own: one style, no script, no request to anybody
    GET /card?fragment=1   the list alone, to be put into somebody else's page or answer

The parameters are those of /api/v1/recommendations and the `Options` below. Whatever comes from a catalogue or a caller
is text, and stays text in whatever reads the fragment next: chats run answers through Markdown before they sanitize the
HTML (Dify's sanitizer drops styles, classes and frames, and knows the elements used here), so the fragment is readable
without a style, has no empty line and no indentation, which would end HTML in Markdown, and writes Markdown's special
characters as character references. Controls that change text direction are removed; each text finds its own direction.

Images are left out unless `images` asks for them: each is a request that tells a host of the catalogue's choosing who
looks. Even then only https images are shown, without a referrer.
"""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from starlette.responses import Response

from recserv import v1 as pb
from recserv.errors import Violation
from recserv.gateway.answers import bad_fields, degraded_headers, reason_name

CARD_PATH = "/card"
PAGE_SIZE, PAGE_SIZE_MAX = 6, 20
TEXT_MAX = 120
"""Characters of a title or a reason that are shown."""
TITLE = "Recommended for you"
_REASONS_MAX = 2
_IMAGE_URI_MAX = 2_048
_PRICE_MAX = 1e12
"""Prices from here on are shown with three digits."""
_CURRENCY_MAX = 8
_TRUE = {"1": True, "true": True, "0": False, "false": False}
_TURNS = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])
"""Embeddings, overrides and isolates. Marks without a scope (U+200E, U+200F, U+061C) occur in real titles."""
_REFERENCES = {ord(mark): f"&#{ord(mark)};" for mark in "&<>\"'`*_~[]{}()\\$|#!:"}
_IMAGE_URI = re.compile(r"https://[^\s\"'<>\\]+")

_STYLE = """\
:root{color-scheme:light dark;--ink:#1d2430;--soft:#5a6474;--line:#dfe3ea;--back:#fff;--page:#f4f6f9;--warn:#7a4b00;\
--warnback:#fff3d6}
@media(prefers-color-scheme:dark){:root{--ink:#e8ebf1;--soft:#a3adbd;--line:#363e4c;--back:#1c222c;--page:#12161d;\
--warn:#ffd891;--warnback:#3a2d10}}
*{box-sizing:border-box}
body{margin:0;padding:16px;background:var(--page);color:var(--ink);font:15px/1.45 system-ui,sans-serif}
section{max-width:640px;margin:0 auto;padding:16px 20px;background:var(--back);border:1px solid var(--line);\
border-radius:12px;overflow-wrap:anywhere}
h3{margin:0 0 4px;font-size:17px;line-height:1.3}
ol{margin:0;padding:0;list-style:none}
li{overflow:hidden;padding:12px 0;border-top:1px solid var(--line)}
li:first-child{border-top:0}
li>p{margin:0}
small{font-size:13px;color:var(--soft)}
em{font-style:normal;font-variant-numeric:tabular-nums;white-space:nowrap}
img{float:left;width:64px;height:64px;margin-right:14px;object-fit:cover;border-radius:8px;background:var(--page)}
blockquote{margin:8px 0;padding:6px 10px;border-radius:8px;background:var(--warnback);color:var(--warn);font-size:13px}
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()


class Options(msgspec.Struct, frozen=True):
    """What a card takes besides the fields of a RecommendRequest."""

    title: str = TITLE
    images: bool = False
    fragment: bool = False


def card_options(pairs: Iterable[tuple[str, str]]) -> tuple[Options, list[tuple[str, str]]]:
    """The card's own parameters, and those that are left for the request. Raises Refused."""
    ours: dict[str, Any] = {}
    others, faults = [], []
    for name, text in pairs:
        if name not in Options.__struct_fields__:
            others.append((name, text))
        elif name in ours:
            faults.append(Violation(name, "is given twice", "TOO_MANY"))
        elif name == "title":
            ours[name] = text
        elif text.lower() in _TRUE:
            ours[name] = _TRUE[text.lower()]
        else:
            faults.append(Violation(name, "must be true or false", "MALFORMED"))
    if faults:
        raise bad_fields(faults)
    return Options(**ours), others


def ask_for_card(request: pb.RecommendRequest) -> None:
    """Sets what a card needs in its request. Raises Refused."""
    if request.page_size > PAGE_SIZE_MAX:
        raise bad_fields([Violation("page_size", f"must be at most {PAGE_SIZE_MAX} of a card", "TOO_LARGE")])
    request.page_size = request.page_size or PAGE_SIZE
    request.return_items = True


def card_response(answer: pb.RecommendResponse, options: Options) -> Response:
    body = "\n".join(_card(answer, options))
    if not options.fragment:
        body = _page(body, text(options.title or TITLE))
    policy = [
        "default-src 'none'",
        f"style-src 'sha256-{_STYLE_HASH}'",
        *(["img-src https:"] if options.images else []),
        "base-uri 'none'",
        "form-action 'none'",
        "sandbox",
    ]
    headers = {"Content-Security-Policy": "; ".join(policy), "Referrer-Policy": "no-referrer"}
    return Response(body, 200, {**headers, **degraded_headers(answer)}, "text/html")


def _page(body: str, title: str) -> str:
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _card(answer: pb.RecommendResponse, options: Options) -> Iterator[str]:
    yield "<section>"
    yield f'<h3 dir="auto">{text(options.title) or TITLE}</h3>'
    if answer.degraded_reasons:
        names = ", ".join(reason_name(number).lower().replace("_", " ") for number in answer.degraded_reasons)
        yield f"<blockquote>Not a full answer: {text(names)}</blockquote>"
    if answer.results:
        yield "<ol>"
        for result in answer.results[:PAGE_SIZE_MAX]:
            yield from _product(result, options)
        yield "</ol>"
    else:
        yield "<p>Nothing to recommend.</p>"
    yield "</section>"


def _product(result: pb.RecommendResult, options: Options) -> Iterator[str]:
    item = result.item
    name = text(item.title) or text(result.item_id)
    yield "<li>"
    if options.images and len(item.image_uri) <= _IMAGE_URI_MAX and _IMAGE_URI.fullmatch(item.image_uri):
        yield f'<img src="{text(item.image_uri, _IMAGE_URI_MAX)}" alt="" width="64" height="64">'
    yield f'<p><strong dir="auto">{name}</strong></p>'
    facts = [fact for fact in (_price(item), text(item.brand), _availability(item)) if fact]
    if facts:
        yield f"<p>{' · '.join(facts)}</p>"
    reasons = [reason.text for reason in result.reasons[:_REASONS_MAX]]
    for told in filter(None, map(text, [result.explanation] if result.explanation else reasons)):
        yield f'<p><small dir="auto">{told}</small></p>'
    yield "</li>"


def _price(item: pb.Item) -> str:
    """`price` 0 means a product without a price, or a free one: nothing is shown."""
    if not item.price:
        return ""
    amount = f"{item.price:,.2f}" if item.price < _PRICE_MAX else f"{item.price:.3g}"
    return f"<em>{amount} {text(item.currency_code, _CURRENCY_MAX)}".rstrip() + "</em>"


def _availability(item: pb.Item) -> str:
    return "not available" if item.HasField("available") and not item.available else ""


def text(given: str, most: int = TEXT_MAX) -> str:
    """One line of at most `most` characters that stays text in HTML, in an HTML attribute, and in Markdown."""
    # Cut first, so that a text that is far too long costs no more than any other.
    shown = " ".join(_plain(given[: 4 * most]).split())
    if len(shown) > most:
        shown = shown[: most - 1].rstrip() + "…"
    return shown.translate(_REFERENCES)


def _plain(given: str) -> str:
    kept = given.translate(_TURNS)
    if kept.isprintable():
        return kept
    return "".join(" " if unicodedata.category(one) in ("Cc", "Zl", "Zp", "Cs", "Co", "Cn") else one for one in kept)
