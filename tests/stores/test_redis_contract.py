from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests import tools
from tests.redis_server import RedisServer, running_redis
from tests.stores.contract import StoreContract
from tests.stores.redis_support import RedisBackend

PROGRAMS = {"system": tools.redis_server, "wheel": tools.valkey_server}
if tools.OLDEST_HAS_A_WHEEL:
    PROGRAMS["oldest"] = tools.oldest_redis_server


@pytest.fixture(scope="module", params=PROGRAMS)
def shared_redis(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Debian's Redis, or what stands in for it, and the newest server and the oldest one that come in wheels."""
    with running_redis(tmp_path_factory.mktemp("redis"), program=PROGRAMS[request.param]()) as server:
        yield server


@pytest.mark.skipif(not tools.OLDEST_HAS_A_WHEEL, reason="no wheel of Redis 6.2 for this platform")
def test_the_oldest_server_is_as_old_as_what_is_promised() -> None:
    told = subprocess.run([tools.oldest_redis_server(), "--version"], capture_output=True, text=True, check=True)
    assert "v=6.2." in told.stdout


class TestRedis(StoreContract):
    @pytest.fixture
    def backend(self, shared_redis: RedisServer) -> RedisBackend:
        with shared_redis.client() as client:
            client.flushall()
        return RedisBackend(shared_redis.url)
