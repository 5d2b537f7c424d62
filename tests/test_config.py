from __future__ import annotations

from pathlib import Path

import pytest

from recserv.config import KEYS, Settings, load_settings, parse_address
from recserv.errors import ConfigError

MODEL = {"model": "m"}


def problems(
    flags: dict[str, object] | None = None, environ: dict[str, str] | None = None, config: Path | None = None
) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_settings(MODEL if flags is None else flags, environ or {}, str(config) if config else None)
    return list(caught.value.problems)


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recserv.toml"
    path.write_text(text)
    return path


def test_a_model_alone_gives_the_default_settings() -> None:
    assert load_settings(MODEL, {}) == Settings(model="m")


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    path = toml(tmp_path, 'model = "file"\nlisten = "file:1"\nstate = "embedded:file"\nworkers = 3\n')
    environ = {"RECSERV_LISTEN": "environ:2", "RECSERV_STATE": "embedded:environ"}
    settings = load_settings({"state": "embedded:flag", "workers": None}, environ, str(path))
    assert (settings.model, settings.workers) == ("file", 3)
    assert (settings.listen, settings.state) == ("environ:2", "embedded:flag")


def test_the_environment_can_name_the_file(tmp_path: Path) -> None:
    path = toml(tmp_path, 'model = "file"\n')
    assert load_settings({}, {"RECSERV_CONFIG": str(path)}).model == "file"


def test_strings_of_flags_and_environment_become_what_the_setting_is() -> None:
    environ = {"RECSERV_EXCLUDE_PURCHASED": "on", "RECSERV_DRAIN_MS": "5"}
    settings = load_settings({**MODEL, "context_cache": "off"}, environ)
    assert (settings.context_cache, settings.exclude_purchased, settings.drain_ms) == (False, True, 5)


def test_without_a_model_it_says_how_to_name_one() -> None:
    [problem] = problems({})
    assert "--model" in problem


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    path = toml(
        tmp_path,
        'lisen = "a:1"\nworkers = "three"\nid_retention_hours = nan\ndrain_ms = -1\nlog_level = "loud"\n'
        'state = "mongodb://x"\nlog_salt = "env:NO_SUCH_SECRET"\n[nested]\nx = 1\n',
    )
    found = problems({"max_in_flight": "0", "listen": "nowhere"}, {"RECSERV_PORTT": "1"}, path)
    wanted = [
        "'lisen'; did you mean 'listen'?",
        "workers",
        "id_retention_hours",
        "drain_ms",
        "log_level",
        "state",
        "NO_SUCH_SECRET",
        "'nested'",
        "--max-in-flight",
        "--listen",
        "RECSERV_PORTT",
        "model: missing",
    ]
    assert len(found) == len(wanted), found
    assert [text for text in wanted if not any(text in problem for problem in found)] == []


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "0", "text", ""])
def test_a_number_that_is_none_or_out_of_range_is_refused(value: str) -> None:
    [problem] = problems({**MODEL, "id_retention_hours": value})
    assert problem.startswith("--id-retention-hours")


def test_a_toml_value_of_the_wrong_type_is_refused(tmp_path: Path) -> None:
    for line in ("workers = true", "workers = 1.5", "context_cache = 1", "listen = 5", "listen = ['a:1']"):
        [problem] = problems(config=toml(tmp_path, line))
        assert line.split()[0] in problem


def test_the_log_is_kept_at_least_as_long_as_the_ids() -> None:
    [problem] = problems({**MODEL, "id_retention_hours": "48", "log_retention_hours": "24"})
    assert "log_retention_hours (24) is below id_retention_hours (48)" in problem


def test_listen_and_metrics_listen_must_differ() -> None:
    [problem] = problems({**MODEL, "listen": "127.0.0.1:9464"})
    assert "metrics_listen" in problem
    load_settings({**MODEL, "listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0"}, {})


def test_a_secret_comes_from_the_environment_and_is_never_repeated(tmp_path: Path) -> None:
    path = toml(tmp_path, 'model = "m"\nstate = "env:STATE_URL"\n')
    assert load_settings({}, {"STATE_URL": "redis://:hunter2@host"}, str(path)).state == "redis://:hunter2@host"
    [problem] = problems({}, {"STATE_URL": "oops://:hunter2@host"}, path)
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    ("content", "text"), [(b"model = ", "is not TOML"), (b"\xff\xfe", "is not UTF-8"), (None, "cannot be read")]
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None, text: str) -> None:
    path = tmp_path / "recserv.toml"
    if content is not None:
        path.write_bytes(content)
    [problem] = problems(config=path)
    assert str(path) in problem
    assert text in problem


SERVICES_OF_KUBERNETES = ("RECSERV", "RECSERV_METRICS", "RECSERV_CANARY_2", "RECSERV_SHARE")
"""As they begin the variables of Services called recserv, recserv-metrics, ... With the last one comes the name of a
setting, RECSERV_SHARE_PORT.
"""


@pytest.mark.parametrize("service", SERVICES_OF_KUBERNETES)
def test_what_kubernetes_puts_into_a_pod_is_not_taken_for_a_setting(service: str) -> None:
    environ = {
        f"{service}_SERVICE_HOST": "10.0.0.1",
        f"{service}_SERVICE_PORT": "50051",
        f"{service}_SERVICE_PORT_GRPC": "50051",
        f"{service}_PORT": "tcp://10.0.0.1:50051",
        f"{service}_PORT_50051_TCP": "tcp://10.0.0.1:50051",
        f"{service}_PORT_50051_TCP_PROTO": "tcp",
        f"{service}_PORT_50051_TCP_PORT": "50051",
        f"{service}_PORT_50051_TCP_ADDR": "10.0.0.1",
        f"{service}_PORT_53_UDP": "udp://10.0.0.1:53",
        "RECSERV_DEBUG": "1",
    }
    warnings: list[str] = []
    assert load_settings(MODEL, environ, None, warnings.append) == Settings(model="m")
    assert warnings == []


def test_a_variable_that_is_no_setting_is_a_warning_with_a_hint_and_no_end_of_the_start() -> None:
    environ = {"RECSERV_LISEN": "127.0.0.1:1", "RECSERV_PORT": "50051", "RECSERV_WORKERS": "1", "OTHER": "x"}
    warnings: list[str] = []
    assert load_settings(MODEL, environ, None, warnings.append) == Settings(model="m")
    assert len(warnings) == 2
    assert "RECSERV_LISEN; did you mean RECSERV_LISTEN?" in warnings[0]
    assert "RECSERV_PORT" in warnings[1]


def test_with_a_problem_the_ignored_variables_are_told_too() -> None:
    [problem, warning] = problems({}, {"RECSERV_MODLE": "m"})
    assert "model: missing" in problem
    assert "did you mean RECSERV_MODEL?" in warning


@pytest.mark.parametrize(
    ("text", "parsed"),
    [("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:50051", ("::1", 50051)), ("host:65535", ("host", 65535))],
)
def test_an_address_is_host_and_port(text: str, parsed: tuple[str, int]) -> None:
    assert parse_address(text) == parsed


@pytest.mark.parametrize(
    "text", ["", "host", ":1", "host:", "host:65536", "host:-1", "::1:5", "[::1:5", "host:x", "host:\u0661"]
)
def test_text_that_is_not_host_and_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_address(text)


def test_every_setting_has_a_flag() -> None:
    from recserv.commands import serve

    assert set(serve._FLAGS) == set(KEYS)
