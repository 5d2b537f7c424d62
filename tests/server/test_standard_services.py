from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from recserv.errors import StoreUnavailable, UsageError
from recserv.server.assembly import SERVICE
from tests.patience import HANG_GUARD_S
from tests.server.harness import Failure, Service

SERVING = health_pb2.HealthCheckResponse.SERVING


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


def test_reflection_lists_the_services_and_describes_ours(service: Service) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(service.channel)
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
    ]
    listed, described = list(stub.ServerReflectionInfo(iter(asked), timeout=HANG_GUARD_S))
    names = {entry.name for entry in listed.list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"} <= names
    assert described.file_descriptor_response.file_descriptor_proto


def test_a_port_that_is_taken_is_told_clearly(service: Service, own_service: Callable[..., Service]) -> None:
    taken = int(service.address.rpartition(":")[2])
    other = own_service()

    async def start() -> None:
        from recserv.metrics import Metrics
        from recserv.server.assembly import GrpcServer, ServerLimits

        server = GrpcServer(
            other.recommender, other.ingestor, other.board, metrics=Metrics(), limits=ServerLimits(), clock=lambda: 0
        )
        await server.start("127.0.0.1", taken)

    with pytest.raises(UsageError, match=rf"cannot listen on 127.0.0.1:{taken}"):
        other.run(start())


def test_a_burst_of_health_checks_is_answered_beside_the_limit(own_service: Callable[..., Service]) -> None:
    service = own_service(max_in_flight=1)
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(lambda _: check(service, ""), range(50))) == {SERVING}
