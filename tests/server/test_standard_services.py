from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from recserv import v1 as pb
from recserv.client import ClientOptions, RecommendationClient
from recserv.errors import StoreUnavailable, UsageError
from recserv.server.admission import ConcurrencyLimiter
from recserv.server.assembly import SERVICE
from recserv.server.health import Health
from recserv.server.reflection import REFLECTION_SERVICES
from recserv.types import RecommendQuery
from tests.patience import HANG_GUARD_S, eventually, eventually_async
from tests.server.harness import Failure, Service

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def check(service: Service, name: str) -> int:
    stub = health_pb2_grpc.HealthStub(service.channel)
    return int(stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=HANG_GUARD_S).status)


@pytest.mark.parametrize("name", ["", SERVICE])
def test_health_is_serving_for_the_server_and_for_the_service(service: Service, name: str) -> None:
    assert check(service, name) == SERVING


def test_health_of_an_unknown_service_is_not_found(service: Service) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        check(service, "nobody")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("name", "state"), [("", SERVING), (SERVICE, SERVING), ("nobody", health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)]
)
def test_a_watch_of_health_begins_with_the_state_as_it_is(service: Service, name: str, state: int) -> None:
    stub = health_pb2_grpc.HealthStub(service.channel)
    stream = stub.Watch(health_pb2.HealthCheckRequest(service=name), timeout=HANG_GUARD_S)
    assert next(stream).status == state
    stream.cancel()


def test_a_failing_store_does_not_flip_health(service: Service) -> None:
    service.recommender.error = service.ingestor.error = StoreUnavailable("down")
    with pytest.raises(Failure):
        service.unary("Recommend")
    assert check(service, "") == SERVING


def test_health_lists_what_it_knows(service: Service) -> None:
    statuses = (
        health_pb2_grpc.HealthStub(service.channel).List(health_pb2.HealthListRequest(), timeout=HANG_GUARD_S).statuses
    )
    assert {name: status.status for name, status in statuses.items()} == {"": SERVING, SERVICE: SERVING}


async def test_a_watcher_that_does_not_read_does_not_hold_up_the_drain() -> None:
    written: list[int] = []

    class Stuck:
        async def write(self, response: health_pb2.HealthCheckResponse) -> None:
            written.append(response.status)
            await asyncio.Event().wait()

    watchers = ConcurrencyLimiter(1, "full", 100)
    health = Health((SERVICE,), watchers)
    health.begin()
    watch = asyncio.create_task(health._watch(health_pb2.HealthCheckRequest(), Stuck()))
    await eventually_async(lambda: written)
    # It waits for nobody, so it cannot.
    health.end()
    assert health._status() == health_pb2.HealthCheckResponse.NOT_SERVING
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    assert watchers.in_use == 0


async def test_a_watcher_is_told_of_every_change_that_it_has_time_for() -> None:
    told: list[int] = []

    class Reads:
        async def write(self, response: health_pb2.HealthCheckResponse) -> None:
            told.append(response.status)

    health = Health((SERVICE,), ConcurrencyLimiter(1, "full", 100))
    watch = asyncio.create_task(health._watch(health_pb2.HealthCheckRequest(service=SERVICE), Reads()))
    await eventually_async(lambda: told == [NOT_SERVING])
    health.begin()
    await eventually_async(lambda: told == [NOT_SERVING, SERVING])
    health.end()
    await eventually_async(lambda: told == [NOT_SERVING, SERVING, NOT_SERVING])
    watch.cancel()


Ask = Callable[..., list[Any]]


@pytest.fixture(params=["v1", "v1alpha"])
def reflect(request: pytest.FixtureRequest, service: Service) -> Ask:
    """Sends requests over one stream of reflection, in one of its versions."""
    stream = service.channel.stream_stream(
        f"/grpc.reflection.{request.param}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    return lambda **asked: list(stream(iter([reflection_pb2.ServerReflectionRequest(**asked)]), timeout=HANG_GUARD_S))


def services(reflect: Ask) -> set[str]:
    [listed] = reflect(list_services="")
    return {entry.name for entry in listed.list_services_response.service}


def files(reflect: Ask, symbol: str) -> list[descriptor_pb2.FileDescriptorProto]:
    [described] = reflect(file_containing_symbol=symbol)
    raws = described.file_descriptor_response.file_descriptor_proto
    return [descriptor_pb2.FileDescriptorProto.FromString(raw) for raw in raws]


def add_in_order(pool: descriptor_pool.DescriptorPool, described: list[descriptor_pb2.FileDescriptorProto]) -> None:
    """Dependencies first; they may come in any order."""
    waiting = {file.name: file for file in described}

    def add(name: str) -> None:
        file = waiting.pop(name, None)
        if file is not None:
            for dependency in file.dependency:
                add(dependency)
            pool.AddSerializedFile(file.SerializeToString())

    for file in described:
        add(file.name)


def test_reflection_lists_the_services_and_itself_in_both_versions(reflect: Ask) -> None:
    reflections = {f"grpc.reflection.{version}.ServerReflection" for version in ("v1", "v1alpha")}
    assert services(reflect) == {SERVICE, "grpc.health.v1.Health", *reflections}


@pytest.mark.parametrize(
    "symbol",
    [
        "recserv.v1.RecommendationService",
        "recserv.v1.RecommendationService.Recommend",
        "recserv.v1.Event",
        "recserv.v1.Event.event_id",
        "recserv.v1.Event.PropertiesEntry",
        "recserv.v1.Event.PropertiesEntry.key",
        "recserv.v1.BatchRecommendEntry.outcome",
        "recserv.v1.EventType",
        "recserv.v1.EVENT_TYPE_VIEW",
        "grpc.health.v1.Health.Watch",
        "grpc.health.v1.HealthCheckResponse.ServingStatus",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1.ServerReflection.ServerReflectionInfo",
        "grpc.reflection.v1alpha.ServerReflection.ServerReflectionInfo",
        "google.rpc.Status",
    ],
)
def test_every_kind_of_name_is_found_by_reflection(reflect: Ask, symbol: str) -> None:
    assert any(symbol.startswith(file.package) for file in files(reflect, symbol))


@pytest.mark.parametrize("symbol", ["recserv.v1.Nothing", "recserv.v1.RecommendationService.Nothing", "", "nobody"])
def test_a_name_that_nobody_has_is_not_found_by_reflection(reflect: Ask, symbol: str) -> None:
    [answer] = reflect(file_containing_symbol=symbol)
    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_what_reflection_describes_is_a_whole_and_is_found_by_file_too(reflect: Ask) -> None:
    for name in services(reflect):
        pool = descriptor_pool.DescriptorPool()
        add_in_order(pool, files(reflect, name))
        assert pool.FindServiceByName(name).full_name == name
        file_name = pool.FindServiceByName(name).file.name
        [by_file] = reflect(file_by_filename=file_name)
        assert by_file.file_descriptor_response.file_descriptor_proto


def test_every_method_that_reflection_lists_is_implemented(service: Service, reflect: Ask) -> None:
    for name in services(reflect):
        [described] = [s for file in files(reflect, name) for s in file.service if name == f"{file.package}.{s.name}"]
        for method in described.method:
            call = service.channel.stream_stream(f"/{name}/{method.name}")(iter([b""]), timeout=HANG_GUARD_S)
            with contextlib.suppress(grpc.RpcError):
                next(call, None)
            # An answer may be the first of many.
            call.cancel()
            assert call.code() is not grpc.StatusCode.UNIMPLEMENTED, f"{name}/{method.name}"


def test_streams_of_health_and_reflection_are_bounded_and_take_no_place_of_others(
    own_service: Callable[..., Service],
) -> None:
    service = own_service(max_streams=2)
    watch = health_pb2_grpc.HealthStub(service.channel).Watch
    first, second = (watch(health_pb2.HealthCheckRequest(), timeout=HANG_GUARD_S) for _ in range(2))
    next(first)
    next(second)
    beyond = [
        service.channel.stream_stream(f"/{name}/ServerReflectionInfo")(iter([b""]), timeout=HANG_GUARD_S)
        for name in REFLECTION_SERVICES
    ]
    for stream in beyond:
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        failure = Failure(caught.value)
        assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert failure.detail(error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0
    with pytest.raises(grpc.RpcError) as unwatched:
        next(watch(health_pb2.HealthCheckRequest(), timeout=HANG_GUARD_S))
    # What a client that balances by health takes for a server without one, and calls.
    assert Failure(unwatched.value).code is grpc.StatusCode.UNIMPLEMENTED
    assert service.server_stream("WatchExplanations", pb.WatchExplanationsRequest(explanation_token="ready"))
    first.cancel()
    eventually(lambda: service.server.admission.watchers.in_use == 1)
    assert next(watch(health_pb2.HealthCheckRequest(), timeout=HANG_GUARD_S)).status == SERVING


def test_a_connection_beyond_those_that_may_watch_health_is_served_without_it(
    own_service: Callable[..., Service],
) -> None:
    service = own_service(max_streams=1)
    watched = health_pb2_grpc.HealthStub(service.channel).Watch(health_pb2.HealthCheckRequest(), timeout=HANG_GUARD_S)
    next(watched)
    options = ClientOptions(health_checked=True, attempts_max=1)
    with RecommendationClient(service.address, options=options, timeout_s=HANG_GUARD_S) as client:
        assert client.recommend(RecommendQuery(session_id="s")).results


def test_a_port_that_is_taken_is_told_clearly(service: Service, own_service: Callable[..., Service]) -> None:
    taken = int(service.address.rpartition(":")[2])
    other = own_service()

    async def start() -> None:
        from recserv.metrics import Metrics
        from recserv.server.assembly import GrpcServer, ServerLimits

        server = GrpcServer(other.backend, metrics=Metrics(), limits=ServerLimits(), clock=lambda: 0)
        await server.start("127.0.0.1", taken)

    with pytest.raises(UsageError, match=rf"cannot listen on 127.0.0.1:{taken}"):
        other.run(start())


def test_a_burst_of_health_checks_is_answered_beside_the_limit(own_service: Callable[..., Service]) -> None:
    service = own_service(max_in_flight=1)
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(lambda _: check(service, ""), range(50))) == {SERVING}
