from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.gateway.support import LiveGateway, gateway_to
from tests.server.harness import Service


@pytest.fixture(scope="module")
def _shared_service() -> Iterator[Service]:
    service = Service()
    yield service
    service.close()


@pytest.fixture
def service(_shared_service: Service) -> Service:
    """A server over fakes, shared by a module; the fakes are as new."""
    _shared_service.reset()
    return _shared_service


@pytest.fixture(scope="module")
def _shared_gateway(_shared_service: Service) -> Iterator[LiveGateway]:
    with gateway_to(_shared_service.address, _shared_service._loop) as gateway:
        yield gateway


@pytest.fixture
def gateway(_shared_gateway: LiveGateway, service: Service) -> LiveGateway:
    return _shared_gateway


@pytest.fixture
def own_gateway(service: Service) -> Iterator[Callable[..., LiveGateway]]:
    """Makes gateways with settings of their own."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(gateway_to(service.address, service._loop, **settings))
