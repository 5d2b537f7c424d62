"""1,500 sizes and colours of one shirt, from file to answer; what exports call the product of a variant."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from recserv import cli
from recserv.index.hnsw import HnswIndex
from recserv.model.snapshot import load_snapshot
from tests.patience import HANG_GUARD_S
from tests.server.live import LiveApp
from tests.training.files.support import QUICK, Builder, events

WORDS = ("mug", "tray", "lamp", "bulb", "rug", "chair", "shelf", "towel", "spoon", "fork")
SHIRTS, OTHERS = 1500, 40


def write_shop(folder: Path, groups: bool) -> None:
    rng = random.Random(1)
    lines = ["item_id,title,categories,price,group_id" if groups else "item_id,title,categories,price"]
    for n in range(OTHERS):
        size = ("small", "large", "red", "blue")[n // 10]
        lines.append(f"p{n},{WORDS[n % 10]} {size},Home,{5 + n}" + "," * groups)
    lines += [f"shirt-{n},Plain shirt,Clothing,19" + ",shirt" * groups for n in range(SHIRTS)]
    (folder / "catalog.csv").write_text("\n".join(lines) + "\n")
    lines = ["event_type,session_id,item_id"]
    for n in range(200):
        start = rng.randrange(OTHERS)
        lines += [f"view,s{n},p{(start + step) % OTHERS}" for step in range(4)]
    lines += [f"view,x{n},{item}" for n in range(3) for item in ("shirt-0", "p0")]
    (folder / "events.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module", params=[True, False], ids=["groups", "no groups"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bool]:
    """The model, and whether it knows of the variants."""
    folder = tmp_path_factory.mktemp("shirts")
    write_shop(folder, request.param)
    files = ["--events", str(folder / "events.csv"), "--catalog", str(folder / "catalog.csv")]
    assert cli.main(["build", *files, "--out", str(folder / "model"), *QUICK, "--dimensions", "8"]) == 0
    return folder / "model", request.param


@pytest.fixture(scope="module")
def app(built: tuple[Path, bool], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveApp, bool]]:
    app = LiveApp(built[0], tmp_path_factory.mktemp("state") / "state.db")
    yield app, built[1]
    app.close()


def asked(app: LiveApp, capsys: pytest.CaptureFixture[str], *arguments: str, count: int = 10) -> list[str]:
    """The items that `recserv query` shows."""
    target = ["--target", app.app.address, "--session", "me", "--count", str(count), f"--timeout={HANG_GUARD_S}"]
    capsys.readouterr()
    assert cli.main(["query", *target, *arguments]) == 0
    shown = capsys.readouterr().out.split()
    return [word for word in shown if word.startswith(("shirt-", "p")) and word[-1].isdigit()]


def test_a_search_that_1500_variants_hold_shows_one_of_them(
    app: tuple[LiveApp, bool], capsys: pytest.CaptureFixture[str]
) -> None:
    found = asked(app[0], capsys, "--search", "plain shirt")
    shirts = [item for item in found if item.startswith("shirt-")]
    assert len(shirts) == (1 if app[1] else 10), found
    assert found[0] == shirts[0]
    assert len(found) == 10


@pytest.mark.parametrize("item", ["p7", "p20", "p33"])
def test_other_products_still_find_each_other(
    app: tuple[LiveApp, bool], capsys: pytest.CaptureFixture[str], item: str
) -> None:
    found = asked(app[0], capsys, "--view", item)
    assert len(found) == 10
    assert sum(other.startswith("p") for other in found) >= 8


def test_what_is_built_finds_all_other_products_in_the_graph_and_in_its_lists(built: tuple[Path, bool]) -> None:
    model = load_snapshot(built[0])
    with model.verified_index() as path:
        graph = HnswIndex.load(path, dimensions=model.dimensions)
    others = {at for at, item in enumerate(model.items.ids) if item.startswith("p")}
    for at in others:
        assert others <= set(graph.search(model.embeddings[at], 64)[0].tolist())
        assert others <= set(model.nearest_items[at].tolist())


def test_whoever_looks_at_a_variant_is_shown_other_products(
    app: tuple[LiveApp, bool], capsys: pytest.CaptureFixture[str]
) -> None:
    # Not known to be variants, the eight that stand for all in the index and a few of the category come first.
    found = asked(app[0], capsys, "--view", "shirt-700", count=20)
    assert len(found) == 20
    assert sum(other.startswith("shirt-") for other in found) <= (1 if app[1] else 12), found


FEED = "id\ttitle\titem_group_id\tprice\npot\tPot\tP\t9 EUR\nlid\tLid\tP\t9 EUR\nrack\tRack\t\t9 EUR\n"
WOO = "ID,Type,SKU,Name,Parent,Regular price\n7,variable,pot,Pot,,9\n8,variation,lid,Lid,pot,9\n9,simple,rack,Rack,,9\n"
WOO_NO_SKU = (
    "ID,Type,SKU,Name,Parent,Regular price\n7,variable,,Pot,,9\n8,variation,lid,Lid,id:7,9\n9,simple,rack,Rack,,9\n"
)
RETAIL = "".join(
    json.dumps({"id": name, "title": name, **({"primaryProductId": "pot"} if name != "rack" else {})}) + "\n"
    for name in ("pot", "lid", "rack")
)


@pytest.mark.parametrize(
    ("mapping", "name", "text", "variants"),
    [
        ("", "c_csv", "item_id,title,group_id\npot,Pot, P \nlid,Lid,P\nrack,Rack,NULL\n", {"pot", "lid"}),
        ("merchant-feed", "c_tsv", FEED, {"pot", "lid"}),
        ("woocommerce", "c_csv", WOO, {"pot", "lid"}),
        ("woocommerce", "c_csv", WOO_NO_SKU, {"7", "lid"}),
        ("google-retail", "c_jsonl", RETAIL, {"pot", "lid"}),
    ],
)
def test_each_source_has_its_own_name_for_the_product_of_a_variant(
    shop: Builder, mapping: str, name: str, text: str, variants: set[str]
) -> None:
    options = ("--catalog-mapping", mapping) if mapping else ()
    built = shop.build(events(), "--allow-unknown-items", *options, **{name: text})
    assert "variants  2 items are variants of 1 products, the largest of 2" in built.out
    model = built.model
    codes = dict(zip(model.items.ids, model.item_groups.tolist(), strict=True))
    assert {item for item, code in codes.items() if code >= 0} == variants
    assert len({codes[item] for item in variants}) == 1


SHOPIFY = """Handle,Title,Body (HTML),Vendor,Product Category,Type,Tags,Variant SKU,Variant Price,Image Src,Status
shirt,Plain shirt,"<p>Cotton, soft.
Long sleeves.</p>",Acme,Apparel > Shirts,Shirt,new,pot,19.00,https://example.org/1.png,active
shirt,,,,,,,lid,21.00,,
shirt,,,,,,,,,https://example.org/2.png,
mug,Mug,,Acme,Home > Mugs,Mug,,rack,7.00,,draft
"""


def test_what_shopify_says_on_the_first_line_of_a_product_holds_for_all_its_variants(shop: Builder) -> None:
    built = shop.build(events(), "--catalog-mapping", "shopify-products", c_csv=SHOPIFY)
    assert (built.code, built.data["rows_without_item"]) == (0, 1), built.err
    pot, lid, rack = (built.item(name) for name in ("pot", "lid", "rack"))
    assert (lid.title, lid.brand, lid.price, lid.group_id) == ("Plain shirt", "Acme", 21, "shirt")
    assert lid.categories == pot.categories == ("Apparel", "Apparel > Shirts")
    assert (lid.available, rack.available, rack.title) == (True, False, "Mug")
    codes = dict(zip(built.model.items.ids, built.model.item_groups.tolist(), strict=True))
    assert codes["pot"] == codes["lid"] >= 0 > codes["rack"]
    assert cli.main(["inspect", str(shop.folder / "c.csv")]) == 0


def test_a_group_that_cannot_be_one_costs_the_group_and_not_the_product(shop: Builder) -> None:
    built = shop.build(events(), c_csv=f"item_id,group_id\npot,{'x' * 300}\nlid,\nrack,\n")
    assert built.code == 0
    (left,) = built.data["values_left_out"]
    assert (left["column"], left["problem"], left["count"]) == ("group_id", "not an id", 1)
    assert built.item("pot").group_id == ""


@pytest.mark.parametrize("repeats", ["first", "last", "commonest"])
def test_a_catalogue_with_several_rows_a_product_keeps_its_groups(shop: Builder, repeats: str) -> None:
    """As one that is the file of events itself."""
    rows = ["sku,name,parent", "pot,POT,kitchen", "lid,LID,kitchen", "pot,POT,kitchen", "rack,RACK,"]
    table = f'[catalog]\nitem_id = "sku"\ntitle = "name"\ngroup_id = "parent"\n[catalog.read]\nrepeats = "{repeats}"\n'
    files = ("--events", shop.write("events.csv", events()), "--catalog", shop.write("c.csv", "\n".join(rows) + "\n"))
    built = shop.run(*files, "--catalog-mapping", shop.write("own.toml", table))
    assert built.code == 0, built.err
    assert [built.item(name).group_id for name in ("pot", "lid", "rack")] == ["kitchen", "kitchen", ""]
