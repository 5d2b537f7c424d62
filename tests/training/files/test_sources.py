"""Exports of well-known sources in their own form, small: what they say, and how they are told apart."""

from __future__ import annotations

import contextlib
import json
import tomllib
from pathlib import Path

import pytest

from recserv import cli
from recserv.errors import UsageError
from recserv.training.mapping_fit import load_mapping
from recserv.training.mapping_tables import Part, about, built_in
from tests.project_files import ROOT
from tests.training.files.support import PAIRS, Builder, Built, events

SECOND_MS = 1_714_557_600_000
PATHS = [["pot", "lid"], ["pot", "lid", "rack"], ["lid", "pot"], ["pot", "lid"], ["rack", "cup"], ["rack", "cup"]]
"""What six shoppers looked at, in order: with a pot goes a lid, with a rack a cup."""


def rees46() -> str:
    rows = ["event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session"]
    for shopper, items in enumerate(PATHS):
        for step, item in enumerate(items):
            kind = ("view", "cart", "purchase")[step % 3]
            when, product = f"2019-10-0{shopper + 1} 08:00:0{step} UTC", f"{item},205,home.kitchen,acme,9.50"
            rows.append(f"{when},{kind},{product},54{shopper},s{shopper}-a")
    return "\n".join(rows) + "\n"


def retailrocket() -> str:
    rows = ["timestamp,visitorid,event,itemid,transactionid"]
    for shopper, items in enumerate(PATHS):
        for step, item in enumerate(items):
            kind = ("view", "addtocart", "transaction")[step % 3]
            at = 1_433_221_332_117 + 60_000 * (10 * shopper + step)
            rows.append(f"{at},{shopper},{kind},{item},{'77' if step == 2 else ''}")
    # The original is in no order of time.
    return "\n".join((rows[0], *reversed(rows[1:]))) + "\n"


def otto() -> str:
    lines = []
    for shopper, items in enumerate(PATHS):
        visits = [
            {
                "aid": item,
                "ts": 1_659_304_800_025 + 1000 * (10 * shopper + step),
                "type": ("clicks", "carts", "orders")[step % 3],
            }
            for step, item in enumerate(items)
        ]
        lines.append(json.dumps({"session": shopper, "events": visits}))
    return "\n".join(lines) + "\n"


def ga4() -> str:
    lines = []
    for shopper, items in enumerate(PATHS):
        base = {
            "event_date": "20240501",
            "user_pseudo_id": f"111.{shopper}",
            "event_params": [
                {"key": "page", "value": {"string_value": "x"}},
                {"key": "ga_session_id", "value": {"int_value": 7}},
            ],
        }
        lines.append(
            json.dumps({**base, "event_timestamp": str(SECOND_MS * 1000), "event_name": "page_view", "items": []})
        )
        for step, item in enumerate(items):
            product = {"item_id": item, "item_name": item, "price": 9.5, "quantity": None}
            at = str((SECOND_MS + 60_000 * (10 * shopper + step)) * 1000)
            lines.append(json.dumps({**base, "event_timestamp": at, "event_name": "view_item", "items": [product]}))
        bought = [{"item_id": item, "price": 9.5, "quantity": 1} for item in items]
        at = str((SECOND_MS + 60_000 * (10 * shopper + 9)) * 1000)
        lines.append(json.dumps({**base, "event_timestamp": at, "event_name": "purchase", "items": bought}))
    return "\n".join(lines) + "\n"


def shopify() -> str:
    rows = ["Name,Email,Financial Status,Created at,Lineitem quantity,Lineitem name,Lineitem price,Lineitem sku"]
    for shopper, items in enumerate(PATHS):
        for step, item in enumerate(items):
            head = f"o{shopper}@shop.example,paid,2024-05-0{shopper + 1} 10:22:33 -0400" if step == 0 else ",,"
            rows.append(f"#100{shopper},{head},1,{item.title()},9.50,{item}")
    return "\n".join(rows) + "\n"


LOGS = {
    "rees46": ("log.csv", rees46, 13, "2019-10-01"),
    "retailrocket": ("events.csv", retailrocket, 13, "2015-06-02"),
    "otto": ("train.jsonl", otto, 13, "2022-07-31"),
    "ga4": ("export.jsonl", ga4, 26, "2024-05-01"),
    "shopify-orders": ("orders_export.csv", shopify, 13, "2024-05-01"),
}


def goes_with(built: Built, item_id: str) -> list[str]:
    """What the pipeline that serves recommends to one who looks at an item."""
    import asyncio

    from recserv.index.listed import ListedIndex
    from recserv.pipeline.engine import Engine
    from recserv.pipeline.pipeline import RecommendationPipeline
    from recserv.pipeline.settings import PipelineSettings
    from recserv.resilience.deadline import Deadline
    from recserv.types import Event, EventType, RecommendQuery

    snapshot = built.model
    with snapshot.verified_index() as path:
        engine = Engine(snapshot, ListedIndex.load(path, snapshot.embeddings, snapshot.nearest_items))
    try:
        pipeline = RecommendationPipeline(engine, None, PipelineSettings())
        viewed = Event(event_type=EventType.VIEW, item_id=item_id)
        answer = asyncio.run(pipeline.recommend(RecommendQuery(context_events=(viewed,)), Deadline(60.0)))
    finally:
        engine.close()
    return [result.item_id for result in answer.results if result.item_id != item_id]


@pytest.mark.parametrize("source", LOGS)
def test_a_well_known_log_becomes_a_shop_that_recommends_what_goes_together(shop: Builder, source: str) -> None:
    name, write, count, day = LOGS[source]
    built = shop.build(write(), "--mapping", source, name=name)
    assert built.data["events"] == count
    assert f"span      {day}" in built.out
    assert (built.data["sessions"], built.data["sessions_with_several"]) == (len(PATHS), len(PATHS))
    assert sorted(built.model.items.ids) == ["cup", "lid", "pot", "rack"]
    assert goes_with(built, "pot")[0] == "lid"
    assert goes_with(built, "cup")[0] == "rack"


@pytest.mark.slow
@pytest.mark.parametrize("source", LOGS)
def test_a_well_known_log_is_served_by_the_commands_of_the_readme(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from recserv.app.server_process import ServerProcess
    from tests.patience import PATIENT_SERVER

    name, write, _, _ = LOGS[source]
    (tmp_path / name).write_text(write())
    model = str(tmp_path / "model")
    assert cli.main(["inspect", str(tmp_path / name)]) == 0
    assert cli.main(["build", "--events", str(tmp_path / name), "--mapping", source, "--out", model]) == 0
    with ServerProcess.started(Path(model), tmp_path / "state.db", PATIENT_SERVER) as server:
        capsys.readouterr()
        assert cli.main(["query", "--target", server.target, "--session", "me", "--view", "pot"]) == 0
        assert "lid" in capsys.readouterr().out


@pytest.mark.parametrize("source", LOGS)
def test_inspect_says_which_mapping_fits(shop: Builder, source: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, write, _, day = LOGS[source]
    path = shop.write(name, write())
    assert cli.main(["inspect", path]) == 0
    told = capsys.readouterr().out
    assert f"taken for events by --mapping {source}" in told
    assert len([line for line in told.splitlines() if "  item " in line]) == 5
    assert day in told
    # A build without the mapping says the same.
    assert f"--mapping {source} fits" in shop.run("--events", path).err


def test_ga4_visits_of_one_visitor_are_sessions_of_their_own(shop: Builder) -> None:
    second = ga4().replace('"int_value": 7', '"int_value": 8')
    assert shop.build(ga4() + second, "--mapping", "ga4", name="e.jsonl").data["sessions"] == 2 * len(PATHS)


def test_a_page_view_without_products_is_no_event(shop: Builder) -> None:
    bare = json.dumps(
        {"event_name": "view_item", "user_pseudo_id": "1", "event_timestamp": "1714557600000000", "items": []}
    )
    built = shop.build(ga4() + bare + "\n", "--mapping", "ga4", name="e.jsonl")
    assert (built.data["rows_without_item"], built.data["rows_bad"], built.data["rows_ignored"]) == (1, 0, len(PATHS))


def test_only_rows_of_the_same_session_are_filled_down(shop: Builder) -> None:
    orphan = "#2000,,,,1,Cup,1.00,cup\n"
    built = shop.build(shopify() + orphan, "--mapping", "shopify-orders", "--skip-bad-rows")
    (bad,) = built.data["bad_rows"]
    assert (bad["column"], bad["problem"], bad["count"]) == ("Created at", "empty", 1)


def test_taobaos_log_has_no_header(shop: Builder) -> None:
    rows = "".join(
        f"{n},{item},100,{kind},{1_511_544_070 + n}\n"
        for n, (kind, item) in enumerate([("pv", "pot"), ("fav", "lid"), ("cart", "pot"), ("buy", "pot")])
    )
    built = shop.build(rows, "--mapping", "taobao")
    assert built.taken() == {
        name: (kind, 1)
        for name, kind in (("pv", "view"), ("fav", "click"), ("cart", "add_to_cart"), ("buy", "purchase"))
    }
    assert built.data["rows_read"] == 4


def test_an_order_of_segment_is_a_purchase_of_each_product(shop: Builder) -> None:
    viewed = {
        "type": "track",
        "event": "Product Viewed",
        "messageId": "m1",
        "anonymousId": "a",
        "timestamp": "2024-05-01T10:00:00.000Z",
        "properties": {"product_id": "pot"},
    }
    ordered = {
        **viewed,
        "event": "Order Completed",
        "messageId": "m2",
        "properties": {"products": [{"product_id": "pot", "price": 9.5}, {"product_id": "lid"}]},
    }
    page = {**viewed, "type": "page", "event": None, "messageId": "m3", "properties": {}}
    built = shop.build(
        "".join(json.dumps(one) + "\n" for one in (viewed, ordered, page)),
        "--mapping",
        "segment",
        "--column",
        "event_id=",
        name="e.jsonl",
    )
    assert built.data["events"] == 3
    assert built.taken()["Order Completed"] == ("purchase", 2)


def test_personalize_files_are_read_in_any_case(shop: Builder) -> None:
    rows = "USER_ID,ITEM_ID,TIMESTAMP,EVENT_TYPE\n" + "".join(
        f"{s},{i},{881_250_949 + n},Click\n" for n, (s, i) in enumerate(PAIRS)
    )
    assert "1997-12-04" in shop.build(rows, "--mapping", "personalize").out
    named = shop.build(rows, "--column", "session_id=user_id")
    assert named.data["unused_columns"] == ["TIMESTAMP"]
    assert "no times: the order of the rows" in named.out


def test_google_retail_events_and_products_are_read(shop: Builder) -> None:
    visits = "".join(
        json.dumps(
            {
                "eventType": "detail-page-view",
                "visitorId": s,
                "eventTime": "2024-05-01T10:00:00Z",
                "productDetails": [{"product": {"id": i}}],
            }
        )
        + "\n"
        for s, i in PAIRS
    )
    products = "".join(
        json.dumps(
            {
                "id": i,
                "title": i,
                "categories": ["Home > Kitchen"],
                "priceInfo": {"price": 9.5, "currencyCode": "EUR"},
                "availability": "OUT_OF_STOCK",
            }
        )
        + "\n"
        for i in ("pot", "lid", "rack")
    )
    built = shop.build(
        visits, "--mapping", "google-retail", "--catalog-mapping", "google-retail", name="e.jsonl", c_jsonl=products
    )
    item = built.item("pot")
    assert (item.price, item.currency_code, item.available, item.categories[-1]) == (
        9.5,
        "EUR",
        False,
        "Home > Kitchen",
    )


KNOWN_WORDS = {
    "taobao": {"pv": "view", "cart": "add_to_cart", "buy": "purchase"},
    "google": {
        "detail-page-view": "view",
        "add-to-cart": "add_to_cart",
        "purchase-complete": "purchase",
        "home-page-view": "ignored",
    },
    "ga4": {
        "view_item": "view",
        "select_item": "click",
        "view_item_list": "impression",
        "refund": "ignored",
        "begin_checkout": "ignored",
    },
    "segment": {
        "Product Viewed": "view",
        "Product Added": "add_to_cart",
        "Order Completed": "purchase",
        "Checkout Started": "ignored",
    },
}


@pytest.mark.parametrize("source", KNOWN_WORDS)
def test_the_usual_words_are_understood_without_a_mapping(shop: Builder, source: str) -> None:
    words = KNOWN_WORDS[source]
    rows = "".join(f"{word},s,{item}\n" for word in words for item in ("pot", "lid"))
    assert shop.build(f"event_type,session_id,item_id\n{rows}").taken() == {
        word: (kind, 2) for word, kind in words.items()
    }


def test_unknown_words_are_listed_each_with_its_count(shop: Builder) -> None:
    more = "gaze,s1,pot\nhum,s1,pot\nhum,s2,pot\n"
    refused = shop.build(events() + more)
    assert refused.code == 2
    assert f"row {len(PAIRS) + 1}, column event_type: unknown event type: 'hum' (2), 'gaze' (1)" in refused.err
    skipped = shop.build(events() + more, "--skip-bad-rows")
    assert (skipped.taken()["hum"], skipped.taken()["gaze"]) == (("unknown", 2), ("unknown", 1))
    assert "'hum' 2, 'gaze' 1" in skipped.out
    told = shop.build(events() + more, "--event-type", "hum=ignore", "--event-type", "gaze=view")
    assert (told.taken()["hum"], told.taken()["gaze"]) == (("ignored", 2), ("view", 1))
    assert "neither an event type nor ignore" in shop.build(events(), "--event-type", "hum=song").err


def test_events_and_catalogue_may_call_the_item_by_two_names(shop: Builder) -> None:
    built = shop.build(
        events().replace("item_id", "product_id"),
        *("--column", "item_id=product_id", "--catalog-column", "item_id=code"),
        c_csv="code,title\npot,Pot\nlid,Lid\nrack,Rack\n",
    )
    assert built.data["catalog"]["events_share"] == 1.0


def test_a_catalogue_of_strangers_ends_the_build_with_ids_of_both_sides(shop: Builder) -> None:
    catalog = "item_id,title\n00pot,Pot\n00lid,Lid\n"
    refused = shop.build(events(), c_csv=catalog)
    assert refused.code == 2
    assert "0% of the events" in refused.err
    assert all(word in refused.err for word in ("'pot'", "'lid'", "'00pot'", "--allow-unknown-items"))
    assert not (shop.folder / "model").exists()
    assert shop.build(events(), "--allow-unknown-items", c_csv=catalog).code == 0


def test_items_outside_of_a_catalogue_that_has_the_rest_are_said_and_not_recommended(shop: Builder) -> None:
    built = shop.build(events(), c_csv="item_id,title\npot,Pot\nlid,Lid\npan,Pan\n")
    assert "1 items of the events are not in the catalogue: never recommended" in built.out
    assert "such as 'rack'; only in the catalogue: 'pan'" in built.out
    assert not built.item("rack").available


@pytest.mark.parametrize("skip", [False, True])
def test_an_order_number_as_event_id_is_a_conflict_and_no_duplicate(shop: Builder, skip: bool) -> None:
    rows = "event_id,event_type,session_id,item_id\n" + "".join(
        f"o-{s},purchase,{s},{i}\n" for s, i in [*PAIRS, PAIRS[0]]
    )
    built = shop.build(rows, *(["--skip-bad-rows"] if skip else []))
    if skip:
        (bad,) = built.data["bad_rows"]
        assert (bad["column"], bad["first_row"], bad["count"], bad["example"]) == ("event_id", 2, 3, "'o-s1'")
        assert (built.data["duplicate_events"], built.data["events"]) == (1, 3)
    else:
        assert built.code == 2
        assert "row 2, column event_id: this event id was used before" in built.err
    assert shop.build(rows, "--column", "event_id=").data["events"] == len(PAIRS) + 1


def test_eval_with_ids_that_the_model_lacks_says_so(shop: Builder, capsys: pytest.CaptureFixture[str]) -> None:
    shop.build(events())
    for lines, code, told in (
        ("1 2\t3\n2 3\t1\n", 2, "none of the targets is an item of the model"),
        ("pot\tlid\npot\t9\n", 0, "1 targets (50.0%)"),
    ):
        sessions = shop.write("s.tsv", lines)
        assert cli.main(["eval", "--model", str(shop.folder / "model"), "--sessions", sessions]) == code
        output = capsys.readouterr()
        assert told in output.out + output.err


@pytest.mark.parametrize("name", built_in())
def test_every_built_in_mapping_is_whole_and_says_what_it_is_for(name: str) -> None:
    assert about(name)
    parts = mapped_parts(name)
    assert parts
    assert all(load_mapping(name, part).columns["item_id"] for part in parts)


def mapped_parts(name: str) -> list[Part]:
    found: list[Part] = []
    for part in ("events", "catalog"):
        with contextlib.suppress(UsageError):
            load_mapping(name, part)
            found.append(part)
    return found


def test_the_readme_and_the_help_name_every_built_in_mapping(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["build", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    readme = (ROOT / "README.md").read_text()
    assert [name for name in built_in() if name not in told or f"`{name}`" not in readme] == []


def test_a_mapping_of_a_file_is_the_one_that_is_explained(shop: Builder, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        cli.main(
            ["build", "--explain-mapping", "--mapping", "otto", "--column", "value=price", "--event-type", "hum=ignore"]
        )
        == 0
    )
    text = capsys.readouterr().out
    table = tomllib.loads(text)
    assert table["events"]["item_id"] == ["events[].aid", "item_id"]
    assert table["events"]["value"] == "price"
    assert table["events"]["event_types"]["hum"] == "ignore"
    own = shop.write("own.toml", text.replace('value = "price"', 'value = "value"'))
    assert shop.build(otto(), "--mapping", own, name="e.jsonl").data["events"] == 13


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[events", "Expected"),
        ('[events]\ncolour = "x"\n', "colour"),
        ("[events.read]\ntime = 'soon'\n", "time"),
        ("[catalog]\n", "says nothing of such files"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused(shop: Builder, text: str, complaint: str) -> None:
    built = shop.build(events(), "--mapping", shop.write("own.toml", text))
    assert built.code == 2
    assert complaint in built.err
    assert "no such mapping; known are" in shop.build(events(), "--mapping", "nobody").err


def test_inspect_of_what_fits_nothing_is_exit_code_2(shop: Builder, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", shop.write("x.csv", "colour,size\nred,1\n")]) == 2
    assert "nothing fits" in capsys.readouterr().out
    assert cli.main(["inspect", str(Path(shop.folder) / "nowhere.csv")]) == 2
