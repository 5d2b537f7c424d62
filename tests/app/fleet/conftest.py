from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.redis_server import running_redis


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Redis of this module's own."""
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server.url
