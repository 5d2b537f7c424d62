"""The page's files and headers, without a browser; what it does in one is in tests/web."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from html.parser import HTMLParser

import pytest

from recserv.gateway.page import page_files
from tests.gateway.support import LiveGateway
from tests.patience import HANG_GUARD_S
from tests.project_files import ROOT, project_files
from tests.server.harness import Service

FILES = {name: content.decode() for name, content in page_files().items()}
MODULES = sorted(name for name in FILES if name.endswith(".js"))
SINKS = (
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|setAttribute\(\"(?:style|on)|srcdoc"
)
ABSOLUTE = r"[\"'(]\s*(?:https?:)?//[a-z]"


class Markup(HTMLParser):
    """What a policy without 'unsafe-inline' would forbid, and what a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.names: list[str] = []
        self._script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._script = tag == "script"
        if tag == "style" or "style" in given or any(name.startswith("on") for name in given):
            self.faults.append(self.get_starttag_text() or tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.names += [value for name, value in attrs if name in ("src", "href") and value and value[0] != "#"]

    def handle_endtag(self, tag: str) -> None:
        self._script = False

    def handle_data(self, data: str) -> None:
        if self._script and data.strip():
            self.faults.append(data)


def markup() -> Markup:
    found = Markup()
    found.feed(FILES["index.html"])
    return found


@pytest.fixture
def look(own_gateway: Callable[..., LiveGateway]) -> LiveGateway:
    return own_gateway(page=True)


def test_no_page_is_served_where_nobody_asked_for_one(gateway: LiveGateway) -> None:
    for path in ("/look", "/look/", "/look/look.js", "/look/config.json", "/compare/healthz"):
        assert gateway.send("GET", path).error["status"] == "NOT_FOUND"


def test_every_file_is_served_with_its_type_and_the_strict_policy(look: LiveGateway) -> None:
    kinds = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml", "html": "text/html"}
    for name, content in FILES.items():
        reply = look.send("GET", "/look/" + ("" if name == "index.html" else name))
        assert (reply.status, reply.text) == (200, content)
        assert reply.headers["content-type"].partition(";")[0] == kinds[name.rpartition(".")[2]]
        policy = dict(part.partition(" ")[::2] for part in reply.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert {policy[f"{kind}-src"] for kind in ("script", "style", "connect")} == {"'self'"}
        assert policy["img-src"] == "'self' data:"
        assert (policy["trusted-types"], policy["require-trusted-types-for"]) == ("'none'", "'script'")
        assert (policy["base-uri"], policy["form-action"], policy["frame-ancestors"]) == ("'none'",) * 3
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"


def test_images_of_other_hosts_are_let_in_only_when_told_so(own_gateway: Callable[..., LiveGateway]) -> None:
    reply = own_gateway(page=True, images=True).send("GET", "/look/")
    assert "img-src 'self' data: https:;" in reply.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path", ["/look/none.js", "/look/index.html", "/look/../routes.py", "/look/%2e%2e/routes.py", "/look//look.js"]
)
def test_what_is_no_file_of_the_page_is_not_found(look: LiveGateway, path: str) -> None:
    assert look.send("GET", path).error["status"] == "NOT_FOUND"


def test_the_page_takes_no_other_method_than_get(look: LiveGateway) -> None:
    assert look.send("POST", "/look/", {}).status == 405
    assert look.send("HEAD", "/look/").status == 200


def test_without_its_slash_the_page_is_one_redirect_away(look: LiveGateway) -> None:
    reply = look.send("GET", "/look")
    assert (reply.status, reply.headers["location"]) == (308, "look/")


def test_the_page_is_told_what_it_can_ask_for(look: LiveGateway, own_gateway: Callable[..., LiveGateway]) -> None:
    told = look.send("GET", "/look/config.json").json
    watches = "/api/v1/watch" in look.send("GET", "/openapi.json").json["paths"]
    assert told == {"images": False, "compares": False, "watches": watches}
    both = own_gateway(page=True, images=True, compare="127.0.0.1:1")
    assert both.send("GET", "/look/config.json").json == {"images": True, "compares": True, "watches": watches}


@pytest.fixture
def second() -> Iterator[Service]:
    service = Service()
    yield service
    service.close()


def test_below_compare_are_the_same_paths_for_the_second_server(
    own_gateway: Callable[..., LiveGateway], service: Service, second: Service
) -> None:
    gateway = own_gateway(page=True, compare=second.address)
    event = {"eventId": "e-1", "eventType": "EVENT_TYPE_VIEW", "sessionId": "s", "itemId": "a"}
    assert gateway.send("POST", "/compare/api/v1/events", event).status == 200
    assert (len(service.ingestor.events), len(second.ingestor.events)) == (0, 1)
    assert gateway.send("GET", "/compare/api/v1/recommendations?session_id=s").status == 200
    assert gateway.send("POST", "/compare/rpc/recserv.v1.RecommendationService/Recommend", {}).status == 200
    assert (len(service.recommender.queries), len(second.recommender.queries)) == (0, 2)
    stream = gateway.http.get("/compare/api/v1/explanations/ready", timeout=HANG_GUARD_S)
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert gateway.send("GET", "/compare/none").error["status"] == "NOT_FOUND"
    assert gateway.send("GET", "/api/v1/recommendations?session_id=s").status == 200
    assert len(service.recommender.queries) == 1


@pytest.mark.parametrize("public_url", ["", "https://shop.example/r"])
def test_documents_below_compare_say_where_the_second_server_is(
    public_url: str, own_gateway: Callable[..., LiveGateway]
) -> None:
    gateway = own_gateway(compare="127.0.0.1:1", public_url=public_url)
    for name in ("/openapi.json", "/openapi-tools.json"):
        first, second = (gateway.send("GET", prefix + name).json["servers"] for prefix in ("", "/compare"))
        assert second == [{"url": first[0]["url"].rstrip("/") + "/compare"}]
    # Not sent elsewhere, either.
    assert gateway.send("GET", "/compare/healthz/").error["status"] == "NOT_FOUND"


def test_an_answer_says_how_long_the_server_took(gateway: LiveGateway) -> None:
    reply = gateway.send("GET", "/api/v1/recommendations?session_id=s")
    assert re.fullmatch(r"server;dur=\d+\.\d", reply.headers["server-timing"])


def test_the_markup_has_no_script_style_or_listener_in_it() -> None:
    found = markup()
    assert found.faults == []
    assert len(set(found.ids)) == len(found.ids)
    assert sorted(set(found.names) - set(FILES)) == []


def test_every_id_that_a_module_asks_for_exists() -> None:
    source = "\n".join(FILES[name] for name in MODULES)
    made = set(re.findall(r'\bid: "([\w-]+)"', source))
    asked = set(re.findall(r'byId\("([\w-]+)"\)', source))
    assert {"search", "columns", "notices"} <= asked
    assert sorted(asked - made - set(markup().ids)) == []


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_what_exists_and_nothing_from_elsewhere(name: str) -> None:
    source = FILES[name]
    for names, origin in re.findall(r"^import \{([^}]*)\} from \"([^\"]+)\";$", source, flags=re.MULTILINE):
        assert origin.startswith("./")
        exported = FILES[origin[2:]]
        for word in names.split(","):
            found = re.search(
                rf"^export (?:async )?(?:const|let|function|class) {word.strip()}\b", exported, re.MULTILINE
            )
            assert found, f"{word.strip()} of {origin}"
    assert len(re.findall(r"\bimport\b", source)) == len(re.findall(r"^import \{", source, flags=re.MULTILINE))


@pytest.mark.parametrize("name", MODULES)
def test_a_module_makes_no_markup_of_text_and_names_no_other_host(name: str) -> None:
    assert re.findall(SINKS, FILES[name]) == []
    assert re.findall(ABSOLUTE, FILES[name]) == []
    assert len(FILES[name].splitlines()) <= 300


def test_the_style_asks_for_nothing() -> None:
    assert re.findall(r"url\(|@import|@font-face", FILES["look.css"]) == []


def test_the_repository_and_the_wheel_hold_the_page() -> None:
    assert {path.name for path in project_files() if path.parts[:3] == ("recserv", "gateway", "page")} == set(FILES)
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    folder = ROOT / "recserv/gateway"
    held = {path for pattern in told["recserv.gateway"] for path in folder.glob(pattern)}
    assert set((folder / "page").iterdir()) <= held
