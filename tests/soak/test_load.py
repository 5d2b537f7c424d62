"""A load that finds something wrong says so at its end."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable

import grpc
import grpc.aio
import pytest

from tests.soak.load import MixedLoad


def _load(**kinds: Callable[[], Awaitable[None]]) -> MixedLoad:
    """Of these callers alone, as many of each."""
    load = MixedLoad("127.0.0.1:1")
    load._kinds = {name: (1.0, call) for name, call in kinds.items()}
    return load


async def _good() -> None: ...


async def _turned_away() -> None:
    raise grpc.aio.AioRpcError(grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.aio.Metadata(), grpc.aio.Metadata())


async def _wrong_answer() -> None:
    _look_at("REJECTED")


def _look_at(status: str) -> None:
    assert status == "ACCEPTED"


async def test_what_a_caller_asserts_fails_the_load_with_its_traceback() -> None:
    load = _load(good=_good, wrong=_wrong_answer)
    await load.run(seconds=0.1, rate_per_s=200)
    await load.close()
    wrong = load.outcomes["wrong", "FAILED"]
    assert wrong + load.outcomes["good", "OK"] == 20
    with pytest.raises(ExceptionGroup, match=f"{wrong} callers failed") as failed:
        load.check()
    assert all(isinstance(error, AssertionError) for error in failed.value.exceptions)
    assert "_look_at" in "".join(traceback.format_exception(failed.value))


async def test_what_a_server_answers_is_counted_and_fails_nothing() -> None:
    load = _load(good=_good, turned_away=_turned_away)
    await load.run(seconds=0.1, rate_per_s=200)
    await load.close()
    load.check()
    assert {kind for kind, _ in load.outcomes} == {"good", "turned_away"}
    assert load.outcomes["turned_away", "RESOURCE_EXHAUSTED"] + load.outcomes["good", "OK"] == 20
