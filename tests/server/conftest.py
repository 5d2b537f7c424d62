from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

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


@pytest.fixture
def own_service() -> Iterator[Callable[..., Service]]:
    """Makes servers with limits of their own."""
    made: list[Service] = []

    def make(**limits: Any) -> Service:
        made.append(Service(**limits))
        return made[-1]

    yield make
    for service in made:
        service.close()
