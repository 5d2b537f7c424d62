"""Watches of a whole server: what is acknowledged changes the list, by this process or by another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from recserv import v1 as pb
from recserv.app.model import load_model
from recserv.app.server_process import ServerProcess
from recserv.config import Settings
from tests.factories import build_tiny_model
from tests.patience import HANG_GUARD_S, PATIENT_SERVER, eventually
from tests.redis_server import running_redis
from tests.server.harness import Client, Failure
from tests.server.live import LiveApp

Next = Callable[[], pb.WatchRecommendationsResponse]


@pytest.fixture
def live(tiny_model: Path, tmp_path: Path) -> Iterator[LiveApp]:
    app = LiveApp(tiny_model, tmp_path / "state.db", watch_interval_ms=1)
    yield app
    app.close()


def watch(stack: ExitStack, client: Client, resume_token: str = "", **fields: Any) -> Next:
    request = pb.WatchRecommendationsRequest(request=pb.RecommendRequest(**fields), resume_token=resume_token)
    call = stack.enter_context(client.opened("WatchRecommendations", request))
    return lambda: pb.WatchRecommendationsResponse.FromString(next(call))


def ingest(client: Client, event_id: str, item_id: str, kind: Any = pb.EVENT_TYPE_VIEW, **fields: Any) -> int:
    event = pb.Event(event_id=event_id, event_type=kind, item_id=item_id, **fields)
    raw = client.unary("IngestEvent", pb.IngestEventRequest(event=event))
    return pb.IngestEventResponse.FromString(raw).status


def recommend(client: Client, **fields: Any) -> pb.RecommendResponse:
    return pb.RecommendResponse.FromString(client.unary("Recommend", pb.RecommendRequest(**fields)))


def items(response: pb.RecommendResponse) -> list[str]:
    return [result.item_id for result in response.results]


def test_each_event_brings_what_recommend_would_answer_now(live: LiveApp) -> None:
    with ExitStack() as stack:
        following = watch(stack, live, session_id="s")
        assert items(following().response) == items(recommend(live, session_id="s"))
        for number in range(1, 5):
            ingest(live, f"e{number}", f"item-{number}", session_id="s")
            now = following().response
            assert (items(now), now.degraded) == (items(recommend(live, session_id="s")), False)
        ingest(live, "e9", "item-9", session_id="another")
        ingest(live, "e5", "item-5", pb.EVENT_TYPE_PURCHASE, session_id="s", user_id="u")
        last = following()
        assert items(last.response) == items(recommend(live, session_id="s"))
    eventually(lambda: live.app.metrics.registry.get_sample_value("recserv_open_watches") == 0)
    with ExitStack() as stack:
        again = watch(stack, live, last.resume_token, session_id="s")
        ingest(live, "e6", "item-6", session_id="s")
        assert items(again().response) == items(recommend(live, session_id="s")) != items(last.response)


def test_what_a_user_does_in_one_session_changes_the_list_of_all(live: LiveApp) -> None:
    who: list[dict[str, Any]] = [{"user_id": "u"}, {"session_id": "other", "user_id": "u"}]
    with ExitStack() as stack:
        watches = [watch(stack, live, exclude_purchased=True, **shopper) for shopper in who]
        [first, second] = [items(following().response)[0] for following in watches]
        assert first == second
        assert live.app.metrics.registry.get_sample_value("recserv_open_watches") == 2
        ingest(live, "e1", first, pb.EVENT_TYPE_PURCHASE, session_id="s", user_id="u")
        for following in watches:
            assert first not in items(following().response)
    assert live.sample("recserv_watch_looks_total", outcome="sent") == 4


def test_another_model_is_looked_at_by_watches_that_are_open(live: LiveApp, tmp_path: Path) -> None:
    other = load_model(Settings(model=str(build_tiny_model(tmp_path / "other", seed=7))))
    with ExitStack() as stack:
        following = watch(stack, live, session_id="s")
        before = following().response.model_version

        async def swap() -> None:
            live.app.swap(other)

        live._loop.run(swap())
        assert before != following().response.model_version == other.snapshot.version


def test_a_consistency_token_that_is_none_is_told_by_its_place_in_the_watch(live: LiveApp) -> None:
    with pytest.raises(Failure) as caught, ExitStack() as stack:
        watch(stack, live, session_id="s", consistency_token="none")()
    assert caught.value.fields() == ["request.consistency_token"]


def test_an_event_of_one_process_is_seen_by_a_watch_of_another(tiny_model: Path, tmp_path: Path) -> None:
    options = [*PATIENT_SERVER, "--watch-interval-ms=1", "--watch-probe-ms=20"]
    options += [f"--redis-{what}-timeout-ms={HANG_GUARD_S * 1000:.0f}" for what in ("connect", "read", "write")]
    with ExitStack() as stack:
        redis = stack.enter_context(running_redis(tmp_path, options=["--appendfsync", "no"]))
        servers = [stack.enter_context(ServerProcess.started(tiny_model, redis.url, options)) for _ in range(2)]
        here, there = (Client(server.target) for server in servers)
        following = watch(stack, there, session_id="s")
        of_user = watch(stack, there, session_id="t", user_id="u")
        following(), of_user()
        for number in range(1, 4):
            ingest(here, f"e{number}", f"item-{number}", session_id="s")
            last = following()
            assert items(last.response) == items(recommend(here, session_id="s"))
        ingest(here, "e1", "item-1", user_id="u")
        assert items(of_user().response) == items(recommend(here, session_id="t", user_id="u"))
        # Any server takes the token.
        again = watch(stack, here, last.resume_token, session_id="s")
        ingest(there, "e9", "item-9", session_id="s")
        assert items(again().response) == items(following().response) != items(last.response)
        for client in (here, there):
            client.channel.close()
