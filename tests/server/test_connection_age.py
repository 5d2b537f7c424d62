"""Connections are ended when they are old, so that a new server beside this one gets its share of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from recserv import v1 as pb
from tests.patience import HANG_GUARD_S, eventually
from tests.server.harness import Service
from tests.server.live import LiveApp
from tests.server.test_limits import WATCH, in_flight, release


def test_an_old_connection_takes_no_new_call_and_those_on_it_finish(own_service: Callable[..., Service]) -> None:
    service = own_service(connection_age_ms=20)
    states: list[grpc.ChannelConnectivity] = []
    [held] = in_flight(service, 1)
    service.channel.subscribe(states.append)
    # It was told to go, and connects anew only for another call.
    eventually(lambda: grpc.ChannelConnectivity.IDLE in states)
    release(service)
    assert pb.RecommendResponse.FromString(held.result(HANG_GUARD_S)).recommendation_id == "r-1"
    service.unary("Recommend", timeout=HANG_GUARD_S)


def test_the_settings_bound_what_an_old_connection_may_still_do(tiny_model: Path, tmp_path: Path) -> None:
    app = LiveApp(tiny_model, tmp_path / "state.db", connection_age_ms=20, connection_age_grace_ms=20)
    try:
        watch = app.channel.unary_stream(WATCH)(b"", timeout=HANG_GUARD_S)
        with pytest.raises(grpc.RpcError) as caught:
            list(watch)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    finally:
        app.close()


def test_without_an_age_connections_stay(own_service: Callable[..., Service]) -> None:
    service = own_service()
    options = dict(service._limits.options())
    assert not any("connection_age" in name for name in options)
