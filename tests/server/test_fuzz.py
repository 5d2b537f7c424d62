"""Bytes that nobody would send on purpose, at the whole application: every answer is a status with a meaning.

Three kinds for each RPC: noise, messages of random and extreme content, and such messages with bytes changed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from grpc_health.v1 import health_pb2
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from recserv import v1 as pb
from tests.patience import HANG_GUARD_S
from tests.server.harness import Failure
from tests.server.live import LiveApp

# What a request may be answered with, however bad. UNKNOWN, INTERNAL and a lost connection are not among them.
MEANT = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
REQUESTS = {
    "Recommend": pb.RecommendRequest,
    "BatchRecommend": pb.BatchRecommendRequest,
    "IngestEvent": pb.IngestEventRequest,
    "BatchIngestEvents": pb.BatchIngestEventsRequest,
    "StreamEvents": pb.StreamEventsRequest,
    "GetContext": pb.GetContextRequest,
    "GetExplanations": pb.GetExplanationsRequest,
    "WatchExplanations": pb.WatchExplanationsRequest,
    "WatchRecommendations": pb.WatchRecommendationsRequest,
}
ERRORS_INSIDE = {"internal error"}

IDS = st.one_of(
    st.sampled_from(["", "item-1", "item-7", "item-199", "nobody's", "s-1", "Kitchen", "x" * 256, "é" * 129, "a\0b"]),
    st.text(max_size=12),
)
INTS = st.sampled_from([-(2**31), -1, 0, 1, 2, 9, 10, 99, 100, 101, 1000, 2**31 - 1])
LONGS = st.one_of(INTS, st.sampled_from([-(2**63), 2**63 - 1, 1_700_000_000, int(time.time())]))
DOUBLES = st.one_of(st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 0.0, 0.5, 1.0, 1e308, 5e-324]), st.floats())
SCALARS = {
    FieldDescriptor.TYPE_STRING: IDS,
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=8),
    FieldDescriptor.TYPE_INT32: INTS,
    FieldDescriptor.TYPE_INT64: LONGS,
    FieldDescriptor.TYPE_DOUBLE: DOUBLES,
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_ENUM: st.sampled_from([*range(11), -1, 77, 2**31 - 1]),
}
_KNOWN: dict[str, st.SearchStrategy[dict[str, Any]]] = {}


def _value(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return st.dictionaries(IDS, IDS, max_size=3)
    one = _fields(field.message_type) if field.message_type is not None else SCALARS[field.type]
    return st.lists(one, max_size=5) if field.is_repeated else one


def _fields(descriptor: Descriptor) -> st.SearchStrategy[dict[str, Any]]:
    """Keyword arguments of a message, any of them left out."""
    if descriptor.full_name not in _KNOWN:
        optional = {field.name: _value(field) for field in descriptor.fields}
        _KNOWN[descriptor.full_name] = st.fixed_dictionaries({}, optional=optional)
    return _KNOWN[descriptor.full_name]


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(1, 4))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))])


def bodies(kind: Any) -> st.SearchStrategy[bytes]:
    whole = _fields(kind.DESCRIPTOR).map(lambda fields: kind(**fields).SerializeToString())
    return st.one_of(st.binary(max_size=64), whole, whole, damaged(whole))


@pytest.fixture(scope="module")
def live(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveApp]:
    app = LiveApp(tiny_model, tmp_path_factory.mktemp("fuzz") / "state.db")
    yield app
    app.close()


def send(live: LiveApp, method: str, body: bytes) -> None:
    try:
        if method == "StreamEvents":
            answers, failure = live.events([body, body])
            for answer in answers:
                assert all(result.error.message not in ERRORS_INSIDE for result in answer.results)
            if failure is not None:
                raise failure
        elif method == "WatchExplanations":
            live.server_stream(method, body)
        elif method == "WatchRecommendations":
            # Without an end of its own.
            with live.opened(method, body) as answers:
                next(answers)
        else:
            answered = live.unary(method, body)
            if method == "BatchRecommend":
                batch = pb.BatchRecommendResponse.FromString(answered)
                assert all(entry.error.message not in ERRORS_INSIDE for entry in batch.responses)
    except Failure as failure:
        if failure.code not in MEANT or failure.status is None:
            raise


def alive(live: LiveApp) -> bool:
    raw = live.channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=HANG_GUARD_S)
    return bool(health_pb2.HealthCheckResponse.FromString(raw).status == health_pb2.HealthCheckResponse.SERVING)


def fuzz(live: LiveApp, method: str, examples: int, number: int | None = None) -> None:
    # A function-scoped decorator would share its examples between methods.
    @settings(max_examples=examples, database=None, suppress_health_check=list(HealthCheck))
    @given(body=bodies(REQUESTS[method]))
    def run(body: bytes) -> None:
        send(live, method, body)

    (run if number is None else seed(number)(run))()
    assert alive(live)


@pytest.mark.parametrize("method", REQUESTS)
def test_no_bytes_make_a_method_fail_without_a_meaning(live: LiveApp, method: str) -> None:
    fuzz(live, method, examples=60)


@pytest.mark.fuzz
@pytest.mark.parametrize("method", REQUESTS)
def test_no_bytes_make_a_method_fail_without_a_meaning_for_a_minute(live: LiveApp, method: str) -> None:
    ends_s, number = time.monotonic() + 60.0, 0
    while time.monotonic() < ends_s:
        fuzz(live, method, examples=300, number=number)
        number += 1
