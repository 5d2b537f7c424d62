from __future__ import annotations

from tests.redis_server import RedisServer


def test_it_answers_ping_and_syncs_every_write(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        assert client.ping()
        assert client.config_get("appendfsync") == {"appendfsync": "always"}


def test_what_was_written_survives_a_restart_on_the_same_port(redis_server: RedisServer) -> None:
    before = redis_server.url
    with redis_server.client() as client:
        client.set("kept", "yes")
    redis_server.restart()
    assert redis_server.url == before
    with redis_server.client() as client:
        assert client.get("kept") == "yes"


def test_what_was_written_survives_a_kill(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.set("kept", "yes")
    redis_server.kill()
    redis_server.start()
    with redis_server.client() as client:
        assert client.get("kept") == "yes"
