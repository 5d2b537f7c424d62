"""The card is HTML in which nothing but its own markup is markup, whatever a catalogue or a caller says."""

from __future__ import annotations

import html
import re
import threading
from collections.abc import Callable
from concurrent import futures
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recserv import v1 as pb
from recserv.gateway.card import PAGE_SIZE, TEXT_MAX, Options, card_response
from recserv.types import Item, Reason, ReasonType, Result, Source
from tests.gateway.support import LiveGateway
from tests.patience import HANG_GUARD_S
from tests.server.harness import Service, answer

HOSTILE = [
    "<script>alert(1)</script>",
    "</style></title><img src=x onerror=alert(1)>",
    "\"' autofocus onfocus=alert(1) x='",
    "]]><!--",
    "a\n\n    code\n\n**bold** [link](javascript:alert(1)) ![i](https://evil.example/x.png) <https://evil.example>",
    "`x` $$x$$ \\(x\\) ~~x~~ # x | x",
    "\u202eevil\u2066\u202d",
    "\u2028\u0007\x00\x1b[31m",
    "&lt;b&gt;&amp;",
    "t" * 10_000,
    "<b>" * 4_000,
]
TEXTS = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=300), st.lists(st.sampled_from(HOSTILE)).map("".join))
TAGS = {"section", "h3", "ol", "li", "p", "strong", "em", "small", "blockquote"}
TURNS = {chr(code) for code in [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]}


class Reader(HTMLParser):
    """What a browser would make of it."""

    def __init__(self, markup: str):
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.others: list[str] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(markup)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "meta"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        self.others.append(data)

    unknown_decl = handle_pi = handle_comment


@st.composite
def answers(draw: st.DrawFn) -> pb.RecommendResponse:
    def result() -> pb.RecommendResult:
        item = pb.Item(
            item_id=draw(TEXTS),
            title=draw(TEXTS),
            brand=draw(TEXTS),
            currency_code=draw(TEXTS),
            price=draw(st.floats(0, 1e300)),
            image_uri=draw(TEXTS | TEXTS.map("https://img.example/{}".format)),
        )
        return pb.RecommendResult(
            item_id=item.item_id or "i", item=item, reasons=[pb.Reason(text=draw(TEXTS))], explanation=draw(TEXTS)
        )

    return pb.RecommendResponse(results=[result() for _ in range(draw(st.integers(0, 3)))])


@settings(max_examples=30)
@given(answer=answers(), title=TEXTS, images=st.booleans())
def test_whatever_the_catalogue_says_is_text(answer: pb.RecommendResponse, title: str, images: bool) -> None:
    body = bytes(card_response(answer, Options(title=title, images=images, fragment=True)).body).decode()
    read = Reader(body)
    assert {tag for tag, _ in read.tags} <= TAGS | ({"img"} if images else set())
    assert read.others == []
    for tag, attributes in read.tags:
        if tag == "img":
            assert set(attributes) == {"src", "alt", "width", "height"}
            assert str(attributes["src"]).startswith("https://")
        else:
            assert set(attributes) <= {"dir"}
    assert max(map(len, read.texts)) <= TEXT_MAX + len(" ·  · not available")
    # Markdown around it ends the HTML at an empty line, and makes code of what is indented.
    assert all(line and not line[0].isspace() for line in body.split("\n"))
    assert not set(body) & TURNS
    assert all(one.isprintable() or one == "\n" for one in html.unescape(body) if one < "\u00a1")
    assert not set(re.sub(r"<[^>]*>|&#[0-9]+;", "", body)) & set("&<>\"'`*_~[]{}\\$|#!")


def _result(**item: Any) -> Result:
    reasons = (Reason(ReasonType.POPULAR, (), "Popular in the shop"),)
    return Result(
        item_id="a", score=1.0, rank=1, source=Source.POPULAR, reasons=reasons, item=Item(item_id="a", **item)
    )


def _card(gateway: LiveGateway, **query: str) -> Any:
    reply = gateway.send("GET", f"/card?{urlencode(query)}")
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8"), reply.text
    return reply


def test_a_page_has_the_products_with_their_reasons(gateway: LiveGateway, service: Service) -> None:
    service.recommender.answer = answer(
        results=(_result(title="Tea", brand="Leaf", price=12.5, currency_code="EUR", available=False),)
    )
    reply = _card(gateway, session_id="s", title="Picked for you")
    read = Reader(reply.text)
    shown = " ".join(" ".join(read.texts).split())
    assert "Picked for you Tea 12.50 EUR · Leaf · not available Popular in the shop" in shown
    [seen] = service.recommender.queries
    assert (seen.session_id, seen.page_size, seen.return_items) == ("s", PAGE_SIZE, True)
    # Nothing runs, nothing is fetched, and the one style is the one that is allowed.
    policy = reply.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "sandbox"} <= set(policy)
    assert not any(part.startswith(("script-src", "img-src")) or "unsafe" in part for part in policy)
    assert {tag for tag, _ in read.tags} <= TAGS | {"html", "head", "meta", "title", "style", "body"}
    assert "://" not in reply.text


def test_images_are_asked_for_and_only_by_https(gateway: LiveGateway, service: Service) -> None:
    uris = ("https://img.example/a.png?x=1&y=2", "http://img.example/a.png", "javascript:alert(1)", "data:image/png,x")
    service.recommender.answer = answer(results=tuple(_result(title="Tea", image_uri=uri) for uri in uris))
    images = [attributes for tag, attributes in Reader(_card(gateway, images="1").text).tags if tag == "img"]
    assert [one["src"] for one in images] == [uris[0]]
    assert "img-src https:" in _card(gateway, images="true").headers["content-security-policy"]
    assert "<img" not in _card(gateway).text


def test_a_degraded_card_says_so(gateway: LiveGateway) -> None:
    reply = _card(gateway, session_id="degraded", fragment="1")
    assert "Not a full answer: index unavailable" in html.unescape(reply.text)
    assert reply.headers["x-recserv-degraded"] == "INDEX_UNAVAILABLE"
    assert "Not a full answer" not in _card(gateway).text


def test_an_empty_card_says_so(gateway: LiveGateway, service: Service) -> None:
    service.recommender.answer = answer(results=())
    assert "Nothing to recommend." in _card(gateway, fragment="1").text


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("page_size=21", "page_size"),
        ("images=perhaps", "images"),
        ("fragment=1&fragment=1", "fragment"),
        ("bogus=1", "bogus"),
    ],
)
def test_a_bad_parameter_of_a_card_is_named(query: str, field: str, gateway: LiveGateway) -> None:
    reply = gateway.send("GET", f"/card?{query}")
    assert (reply.status, reply.fields()) == (400, [field])


def test_a_card_has_its_place_among_the_requests_in_flight(
    own_gateway: Callable[..., LiveGateway], service: Service
) -> None:
    gateway = own_gateway(max_in_flight=1)
    service.recommender.hold = threading.Event()
    with futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(_card, gateway)
        assert service.recommender.entered.acquire(timeout=HANG_GUARD_S)
        assert gateway.send("GET", "/card").detail("ErrorInfo")["reason"] == "GATEWAY_BUSY"
        service.recommender.hold.set()
        assert first.result(HANG_GUARD_S).status == 200
