"""What an import is worth: the first answer to a household that comes back, in a session still empty."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from recserv import cli
from recserv.app.server_process import ServerProcess
from recserv.client import RecommendationClient
from recserv.commands.demo import demo_options
from recserv.training import complete_journey
from recserv.training.build import build
from recserv.types import DAY_MS, RecommendQuery
from tests.patience import HANG_GUARD_S

TEST_DAYS = 28
HOUSEHOLDS = 1000
K = 20
TIMES_POPULARITY = 1.3

Baskets = Mapping[str, set[str]]


def hit_rate(shown: Mapping[str, set[str]], baskets: Baskets) -> float:
    """Of all items of all baskets, the share that was shown to their household."""
    hits = sum(len(shown[household] & items) for household, items in baskets.items())
    return hits / sum(len(items) for items in baskets.values())


def next_baskets(future: pa.Table) -> Baskets:
    """The different items of each household's first basket."""
    baskets: dict[str, set[str]] = {}
    first: dict[str, object] = {}
    future = future.sort_by("event_time")
    columns = (future[name].to_pylist() for name in ("user_id", "session_id", "item_id"))
    for household, basket, item in zip(*columns, strict=True):
        if first.setdefault(str(household), basket) == basket:
            baskets.setdefault(str(household), set()).add(str(item))
    return baskets


@pytest.mark.slow
def test_a_returning_household_is_answered_better_than_by_popularity_after_an_import_alone(tmp_path: Path) -> None:
    """The protocol, as for next baskets: The Complete Journey is split at TEST_DAYS before its end. The model is built
    from what was before, with the demo's options, and the same purchases are imported, dated so that the last of them
    was a day ago. Then a server is asked once for each of HOUSEHOLDS households, with its user id and a new session id
    and nothing else, no events. Targets are the different items of the household's first basket after the split, each
    of them one; HR@20 is the share of the targets that are among the 20 shown to their household. Popularity is
    measured on the same targets: the 20 items in most lines before the split, and what the server shows to a stranger.
    """
    events, catalog = complete_journey.prepare(tmp_path)
    table = pq.read_table(events)
    time_ms = table["event_time"].cast(pa.int64())
    split_ms = pc.max(time_ms).as_py() - TEST_DAYS * DAY_MS
    past = table.filter(pc.less(time_ms, split_ms))
    baskets = next_baskets(table.filter(pc.greater_equal(time_ms, split_ms)))
    known = sorted(set(map(str, past["user_id"].unique().to_pylist())) & set(baskets))
    chosen = known[:: max(len(known) // HOUSEHOLDS, 1)][:HOUSEHOLDS]
    baskets = {household: baskets[household] for household in chosen}
    pq.write_table(past, tmp_path / "past.parquet")
    build(demo_options(tmp_path / "past.parquet", catalog, tmp_path / "model"))

    theirs = past.filter(pc.is_in(past["user_id"], pa.array([int(household) for household in chosen])))
    shift_ms = time.time_ns() // 1_000_000 - DAY_MS - split_ms
    times = pc.add(theirs["event_time"].cast(pa.int64()), shift_ms)
    theirs = theirs.set_column(theirs.schema.get_field_index("event_time"), "event_time", times)
    pq.write_table(theirs, tmp_path / "theirs.parquet")
    state = tmp_path / "state.sqlite"
    command = ["import", "--events", str(tmp_path / "theirs.parquet"), "--state", f"embedded:{state}"]
    assert cli.main(command) == 0

    lines = Counter(map(str, past["item_id"].to_pylist()))
    popular = {item for item, _ in lines.most_common(K)}
    with ServerProcess.started(tmp_path / "model", state) as server, RecommendationClient(server.target) as client:

        def shown(household: str) -> set[str]:
            query = RecommendQuery(user_id=household, session_id=f"new-{household}", page_size=K)
            return {result.item_id for result in client.recommend(query, timeout_s=HANG_GUARD_S).results}

        to_strangers = shown("nobody")
        found = {household: shown(household) for household in chosen}
    known_rate = hit_rate(found, baskets)
    by_lines = hit_rate(dict.fromkeys(chosen, popular), baskets)
    by_server = hit_rate(dict.fromkeys(chosen, to_strangers), baskets)
    print(f"HR@{K} {known_rate:.4f}; popularity {by_lines:.4f}, to strangers {by_server:.4f}; {len(chosen)} households")
    assert known_rate >= TIMES_POPULARITY * max(by_lines, by_server)
