from __future__ import annotations

import argparse
from typing import Any

import pytest

from recserv.commands import gateway
from recserv.config import load_settings
from recserv.errors import ConfigError
from recserv.gateway.settings import KEYS, GatewaySettings, load_gateway_settings

TARGET = "127.0.0.1:50051"


def test_every_setting_is_a_flag_whose_help_names_the_default() -> None:
    assert tuple(gateway.FLAGS) == KEYS
    defaults = GatewaySettings(target="")
    for key in KEYS:
        value = getattr(defaults, key)
        if value not in ("", (), False):
            assert gateway.FLAGS[key][1].endswith(f"({value})")


def test_flags_win_over_the_environment_which_wins_over_defaults() -> None:
    environ = {"RECSERV_GATEWAY_TARGET": "elsewhere:1", "RECSERV_GATEWAY_MAX_IN_FLIGHT": "7"}
    settings = load_gateway_settings({"target": TARGET, "max_in_flight": None}, environ)
    assert (settings.target, settings.max_in_flight, settings.timeout_ms) == (TARGET, 7, 2000)
    settings = load_gateway_settings(
        {"allow_origin": None}, {**environ, "RECSERV_GATEWAY_ALLOW_ORIGIN": "http://a, http://b"}
    )
    assert settings.allow_origin == ("http://a", "http://b")
    settings = load_gateway_settings({}, {**environ, "RECSERV_GATEWAY_METRICS": "a:1, [::1]:2"})
    assert settings.metrics == ("a:1", "[::1]:2")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("target", "localhost"),
        ("listen", "8080"),
        ("timeout_ms", "0"),
        ("timeout_ms", "70000"),
        ("body_bytes_max", "5000000"),
        ("log_level", "loud"),
        ("head_timeout_ms", "0"),
        ("max_connections", "0"),
        ("max_connections", "2000"),
        ("max_watches", "2000"),
        *[("public_url", url) for url in ("shop.example", "https://shop.example/", "https://a b", "https://a/?x=1")],
        ("metrics", ["localhost"]),
        ("metrics", ["127.0.0.1:9464", "127.0.0.1:9464"]),
        ("metrics", [f"127.0.0.1:{port}" for port in range(9_000, 9_017)]),
        *[("allow_origin", [origin]) for origin in ("*", "shop.example", "https://shop.example/", "null")],
    ],
)
def test_a_bad_setting_is_named(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=key.replace("_", "[-_]")):
        load_gateway_settings({"target": TARGET, key: value}, {})


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_gateway_settings({"listen": "x"}, {"RECSERV_GATEWAY_DRAIN_MS": "-1"})
    assert len(caught.value.problems) == 3


def test_what_kubernetes_sets_is_no_setting_and_the_rest_is_told() -> None:
    told: list[str] = []
    environ = {"RECSERV_GATEWAY_PORT": "tcp://10.0.0.1:80", "RECSERV_GATEWAY_SERVICE_HOST": "x"}
    load_gateway_settings({"target": TARGET}, {**environ, "RECSERV_GATEWAY_LISEN": "x"}, told.append)
    assert told == ["environment: unknown variable RECSERV_GATEWAY_LISEN"]


def test_the_servers_settings_know_that_these_are_another_programs() -> None:
    told: list[str] = []
    load_settings({"model": "m"}, {"RECSERV_GATEWAY_TARGET": TARGET}, None, told.append)
    assert told == []


def test_without_its_extra_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from recserv.errors import UsageError

    monkeypatch.delitem(sys.modules, "recserv.gateway.process", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UsageError, match=r"recserv\[gateway\]"):
        gateway.run(argparse.Namespace())
