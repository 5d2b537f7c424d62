"""Composition: what is started with what, and what a fault of each part does to the whole."""

from __future__ import annotations

import asyncio
import http.client
import shutil
from pathlib import Path

import pytest

from recserv.app.model import load_model
from recserv.app.serving import guard_settings, running
from recserv.config import Settings
from recserv.errors import UsageError
from recserv.pipeline.tokens import encode_token
from recserv.types import DegradedReason, RecommendQuery
from tests.patience import HANG_GUARD_S
from tests.pipeline.support import no_hurry
from tests.redis_server import reserved_port


def settings(model: Path, tmp_path: Path, **changes: object) -> Settings:
    given = {"listen": "127.0.0.1:0", "metrics_listen": "off", "state": f"embedded:{tmp_path / 'state.db'}", **changes}
    return Settings(model=str(model), **given)  # type: ignore[arg-type]


@pytest.fixture
def own_model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_damaged_model_is_refused_by_directory_and_file(own_model: Path, tmp_path: Path) -> None:
    flip(own_model / "embeddings.npy")
    with pytest.raises(UsageError, match=r"embeddings\.npy") as caught:
        load_model(settings(own_model, tmp_path))
    assert str(own_model) in str(caught.value)


@pytest.mark.parametrize(("told_ms", "may_take_s"), [(250, 2.0), (60_000, 60.0)])
def test_a_write_may_take_as_long_as_redis_was_given(told_ms: int, may_take_s: float, tmp_path: Path) -> None:
    told = settings(tmp_path, tmp_path, redis_write_timeout_ms=told_ms)
    assert guard_settings(told).append_timeout_s == may_take_s


@pytest.mark.parametrize(("state", "made"), [("embedded:state.db", False), ("redis://127.0.0.1:1/0", True)])
def test_no_request_waits_for_what_packed_sessions_are_looked_up_in(
    state: str, made: bool, tiny_model: Path, tmp_path: Path
) -> None:
    engine = load_model(settings(tiny_model, tmp_path, state=state)).engine
    assert ("lookup" in vars(engine)) is made


async def test_a_damaged_model_serves_its_popular_items_if_asked_to(own_model: Path, tmp_path: Path) -> None:
    flip(own_model / "embeddings.npy")
    chosen = settings(own_model, tmp_path, on_bad_model="popular")
    model = load_model(chosen)
    assert (model.index, model.snapshot.popular_only) == (None, True)
    async with running(chosen, model) as app:
        assert app.address


def test_a_model_whose_popular_items_are_damaged_too_is_refused_all_the_same(own_model: Path, tmp_path: Path) -> None:
    flip(own_model / "popular_items.npy")
    with pytest.raises(UsageError, match=r"popular_items\.npy"):
        load_model(settings(own_model, tmp_path, on_bad_model="popular"))


def test_a_model_without_its_index_is_served_without_one(own_model: Path, tmp_path: Path) -> None:
    (own_model / "index.hnsw").unlink()
    assert load_model(settings(own_model, tmp_path)).index is None


async def test_a_probe_over_http_passes_until_the_drain(tiny_model: Path, tmp_path: Path) -> None:
    chosen = settings(tiny_model, tmp_path, metrics_listen="127.0.0.1:0")
    async with running(chosen, load_model(chosen)) as app:

        def probe() -> int:
            connection = http.client.HTTPConnection(app.metrics_address, timeout=HANG_GUARD_S)
            connection.request("GET", "/healthz")
            return connection.getresponse().status

        assert await asyncio.to_thread(probe) == 200
        await app.server.quiesce(0.0)
        assert await asyncio.to_thread(probe) == 503


async def test_a_state_file_in_use_ends_the_start(tiny_model: Path, tmp_path: Path) -> None:
    chosen = settings(tiny_model, tmp_path)
    model = load_model(chosen)
    async with running(chosen, model):
        with pytest.raises(UsageError):
            async with running(chosen, model):
                pass


async def test_a_damaged_state_file_ends_the_start_and_a_new_one_serves(tiny_model: Path, tmp_path: Path) -> None:
    chosen = settings(tiny_model, tmp_path)
    model = load_model(chosen)
    async with running(chosen, model):
        pass
    state = tmp_path / "state.db"
    state.write_bytes(state.read_bytes()[:4096].ljust(state.stat().st_size, b"\xa5"))
    # The command line ends with exit code 2 for it.
    with pytest.raises(UsageError, match=r"state\.db: is damaged.*move it away"):
        async with running(chosen, model):
            pass
    state.rename(tmp_path / "damaged.db")
    async with running(chosen, model):
        pass


async def test_a_start_that_fails_halfway_lets_go_of_everything(tiny_model: Path, tmp_path: Path) -> None:
    chosen = settings(tiny_model, tmp_path)
    model = load_model(chosen)
    async with running(chosen, model) as first:
        second = settings(tiny_model, tmp_path, state=f"embedded:{tmp_path / 'other.db'}", listen=first.address)
        with pytest.raises(UsageError, match="cannot listen"):
            async with running(second, model):
                pass
        # The store of the failed start is free again.
        third = settings(tiny_model, tmp_path, state=f"embedded:{tmp_path / 'other.db'}")
        async with running(third, model):
            pass


async def test_what_a_process_keeps_besides_is_bounded_by_the_setting(tiny_model: Path, tmp_path: Path) -> None:
    chosen = settings(tiny_model, tmp_path, cache_memory_mib=3)
    async with running(chosen, load_model(chosen)) as app:
        serving = app.live._now.pipeline
        assert serving._contexts is not None
        bounds = [serving._contexts._entries.bytes_max, serving.board._tokens.bytes_max]
        assert bounds == [3 * 1024 * 1024 // 2] * 2


async def test_a_token_is_no_error_while_redis_is_down_since_the_start(tiny_model: Path, tmp_path: Path) -> None:
    with reserved_port() as nobody_listens:
        chosen = settings(tiny_model, tmp_path, state=f"redis://127.0.0.1:{nobody_listens.getsockname()[1]}/0")
        async with running(chosen, load_model(chosen)) as app:
            token = encode_token(bytes(32), "default", "s", "", 1)
            answer = await app.live.recommend(RecommendQuery(session_id="s", consistency_token=token), no_hurry())
    assert answer.degraded_reasons == (DegradedReason.STATE_UNAVAILABLE,)
    assert len(answer.results) == 10
