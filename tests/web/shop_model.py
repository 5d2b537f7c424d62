"""A small shop for the browser, whose catalogue holds what a hostile or careless one may hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from recserv.model.writer import save_snapshot
from recserv.training.assemble import assemble
from recserv.training.options import BuildOptions
from recserv.training.ranker import PLAIN_RANKER
from tests.factories import START_MS, tiny_catalog, tiny_log

ITEMS, SESSIONS = 200, 400
MARKUP = "<img src=x onerror=\"document.title='owned'\"><b>bold</b>"
SCRIPT = '"><script>document.title="owned"</script><svg onload=alert(1)>'
LONG = "An endless name " * 640
RIGHT_TO_LEFT = "כד קפה \u202eadded later\u202c إبريق"
TEMPLATE = "${document.title='owned'} {{7*7}} javascript:alert(1) &lt;i&gt;"
HOSTILE = {"item-27": MARKUP, "item-12": SCRIPT, "item-15": LONG, "item-10": RIGHT_TO_LEFT, "item-22": TEMPLATE}
"""Titles, by item: the most popular ones."""
FOREIGN_IMAGES = {"item-27": "https://images.invalid/a.png", "item-12": "javascript:document.title='owned'"}
OWN_IMAGE = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def build_shop(path: Path) -> Path:
    catalog = tiny_catalog(ITEMS)
    ids = catalog.ids
    titles = catalog.text["title"].to_pylist()
    text = {
        **catalog.text,
        "title": pa.array([HOSTILE.get(item_id, title) for item_id, title in zip(ids, titles, strict=True)]),
        "brand": pa.array([MARKUP if item_id in HOSTILE else "Plain & Co" for item_id in ids]),
        "description": pa.array([f"{HOSTILE.get(item_id, 'A useful thing.')}\nMade to last." for item_id in ids]),
        "image_uri": pa.array(
            [FOREIGN_IMAGES.get(item_id, OWN_IMAGE if n == 26 else "") for n, item_id in enumerate(ids)]
        ),
    }
    options = BuildOptions(events=("made up",), out=str(path), seed=0, dimensions=16, epochs=1.0)
    contents, _ = assemble(
        tiny_log(ITEMS, SESSIONS), replace(catalog, text=text, price=np.round(catalog.price, 2)), options
    )
    save_snapshot(contents.ranked_by(PLAIN_RANKER), path, now_ms=START_MS, durable=False)
    return path
