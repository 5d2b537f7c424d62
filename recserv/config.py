"""Settings: command-line flags over `RECSERV_*` environment over a TOML file over defaults, checked all at once.

    flags, environ, TOML text -> layers -> one value per key -> converted and checked -> Settings
                                                             -> or ConfigError with every problem found

A string `env:NAME` stands for the environment variable NAME, so that a secret need not be written into the file.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import msgspec
from msgspec import Meta

from recserv.config_llm import LlmSettings, llm_settings, resolved
from recserv.errors import ConfigError

ENV_PREFIX = "RECSERV_"
GATEWAY_ENV_PREFIX = "RECSERV_GATEWAY_"
"""Of the settings of another process, see recserv.gateway.settings."""
# Read by the build and by this module itself; not settings of the server.
_ENV_OTHERS = frozenset({"RECSERV_CONFIG", "RECSERV_DEBUG"})
# Kubernetes puts these into every pod of a namespace that has a Service called "recserv" or "recserv-ANYTHING".
_ENV_KUBERNETES = re.compile(
    r"RECSERV_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_ENV_KUBERNETES_PORT = re.compile(r"RECSERV_(\w+_)?PORT")
_ENV_KUBERNETES_PORT_VALUE = re.compile(r"(tcp|udp|sctp)://\S+")
_SWITCH = {"on": True, "off": False, "true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}
_CHOICES = {"log_level": ("debug", "info", "warning", "error"), "on_bad_model": ("refuse", "popular")}
_STATES = ("embedded", *(f"{scheme}{kind}" for scheme in ("redis", "rediss") for kind in ("", "+sentinel", "+cluster")))
_DAY_HOURS = 24.0
_YEARS_10_HOURS = 10 * 365 * _DAY_HOURS

Hours = Annotated[float, Meta(gt=0, le=_YEARS_10_HOURS)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a running server can be told. Only `model` has no default."""

    model: str
    """Directory written by `recserv build`."""
    listen: str = "127.0.0.1:50051"
    """HOST:PORT; port 0 takes a free one. In a container 0.0.0.0:50051: nobody outside reaches its loopback."""
    state: str = "embedded:recserv-state.sqlite"
    """embedded:PATH, redis://..., redis+sentinel://... or redis+cluster://... (rediss: with TLS)."""
    state_memory_mib: Annotated[int, Meta(ge=16, le=1_048_576)] = 1024
    """What an embedded state may keep in memory of sessions and profiles; the ones unused for longest go first."""
    cache_memory_mib: Annotated[int, Meta(ge=2, le=1_048_576)] = 128
    """What a process may keep to save work, whatever the state: half for contexts, half for explanation tokens."""
    require_durable: bool = False
    """Refuse a Redis whose settings could lose acknowledged events."""
    redis_connect_timeout_ms: Annotated[int, Meta(ge=1, le=60_000)] = 150
    redis_read_timeout_ms: Annotated[int, Meta(ge=1, le=60_000)] = 150
    redis_write_timeout_ms: Annotated[int, Meta(ge=1, le=60_000)] = 250
    """One batch of reads or writes; what takes longer is answered as unavailable."""
    workers: Annotated[int, Meta(ge=1, le=256)] = 1
    metrics_listen: str = "127.0.0.1:9464"
    """HOST:PORT of the listener for Prometheus (/metrics) and for probes (/healthz), or `off`."""
    default_deadline_ms: Annotated[int, Meta(ge=1, le=600_000)] = 1_000
    """Of calls whose client set none."""
    recommend_budget_ms: Annotated[int, Meta(ge=1, le=600_000)] = 200
    """Within which a Recommend is answered, degraded if need be, even if its client would wait longer."""
    max_in_flight: Annotated[int, Meta(ge=1, le=100_000)] = 256
    """Recommendations worked on at once, as many calls with events, as many others; the next one of a class is
    RESOURCE_EXHAUSTED.
    """
    max_streams: Annotated[int, Meta(ge=1, le=100_000)] = 1_000
    """Open StreamEvents and WatchExplanations calls; watches of recommendations have a limit of their own."""
    max_watches: Annotated[int, Meta(ge=1, le=100_000)] = 1_000
    """Open WatchRecommendations calls; the next one is RESOURCE_EXHAUSTED."""
    watch_interval_ms: Annotated[int, Meta(ge=1, le=60_000)] = 100
    """Between two looks of one watch: events that come closer together are answered once."""
    watch_probe_ms: Annotated[int, Meta(ge=10, le=60_000)] = 250
    """How often a process with watches asks a Redis what other processes have written of their shoppers."""
    max_waiting_calls: Annotated[int, Meta(ge=100, le=1_000_000)] = 10_000
    """Calls that may wait to be looked at, some 17 KB each; of more gRPC drops some without a word, of twice as many
    all. Of 10,000 at once a bound of 1,000 dropped 45 %, with 476 useful answers a second where this one gave 644.
    """
    max_calls_per_connection: Annotated[int, Meta(ge=0, le=1_000_000)] = 1_000
    """Calls and streams of one connection at once; further ones wait in the client. 0: no limit. A low one makes a
    spike's calls wait in their clients, where nobody tells them anything, or end as UNAVAILABLE without a delay.
    """
    drain_ms: Annotated[int, Meta(ge=0, le=3_600_000)] = 10_000
    """How long calls in flight may take to finish after SIGTERM."""
    lame_duck_ms: Annotated[int, Meta(ge=0, le=600_000)] = 200
    """Of the drain, how long new calls are still served while health already says NOT_SERVING."""
    share_port: bool = False
    """Another server process of the same user may listen on the same port, as a deployment on one machine needs."""
    connection_age_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 300_000
    """After this long (and up to a tenth more or less) a client is asked to connect anew; 0: never."""
    connection_age_grace_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 0
    """How long calls on such a connection may still take; 0: as long as they like."""
    model_watch_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 5_000
    """How often to look whether the model directory was replaced; 0: never, SIGHUP alone reloads."""
    context_cache: bool = True
    exclude_purchased: bool = False
    """What an unset RecommendRequest.exclude_purchased means."""
    id_retention_hours: Hours = _DAY_HOURS
    """How long event ids are remembered; older events are refused."""
    log_retention_hours: Hours = 7 * _DAY_HOURS
    """How long the event log is kept; not shorter than the ids."""
    log_level: str = "info"
    log_salt: str = ""
    """Key of the hash that stands for user ids in the logs; empty: a new one at every start."""
    on_bad_model: str = "refuse"
    """refuse: exit code 2; popular: serve the popular items of whatever can be read."""
    llm: LlmSettings | None = None
    """Who writes explanations; the table [llm] of the file, see config_llm. None: template reasons only."""


TABLES = ("llm",)
"""Settings that only the file can hold."""
KEYS = tuple(key for key in Settings.__struct_fields__ if key not in TABLES)
_TYPES: dict[str, Any] = {k: v for k, v in get_type_hints(Settings, include_extras=True).items() if k in KEYS}


def parse_address(text: str) -> tuple[str, int]:
    """`HOST:PORT` or `[IPV6]:PORT` -> (host, port). Raises ValueError with a sentence for a person."""
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ValueError("is not HOST:PORT")
    if host.startswith("[") != host.endswith("]") or (":" in host and not host.startswith("[")):
        raise ValueError("has an IPv6 address without its brackets")
    if not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError("has a port outside 0..65535")
    return host.strip("[]"), int(port)


def load_settings(
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    config_file: str | None = None,
    warn: Callable[[str], None] = lambda _: None,
) -> Settings:
    """The settings that serve. `flags` holds those that were given, by key; a value None was not given.

    `config_file` None: the one that RECSERV_CONFIG names, if any. `warn` is told of what is ignored and perhaps meant
    something. Raises ConfigError with every problem at once, what would have been a warning among them.
    """
    problems: list[str] = []
    ignored: list[str] = []
    path = config_file or environ.get("RECSERV_CONFIG")
    file = _read_toml(path, problems) if path else {}
    llm = llm_settings(file.pop("llm"), path or "", environ, problems) if "llm" in file else None
    layers = [
        (path or "", file),
        ("environment", _from_environment(environ, ignored)),
        ("flag", {key: value for key, value in flags.items() if value is not None}),
    ]
    values: dict[str, object] = {}
    for origin, layer in layers:
        for key, raw in layer.items():
            if key not in _TYPES:
                problems.append(f"{origin}: unknown key {key!r}{_hint(key)}")
                continue
            value = _convert(_label(origin, key), key, raw, environ, problems)
            if value is not None:
                values[key] = value
    if not values.get("model") and not any("model" in layer for _, layer in layers):
        problems.append("model: missing; give --model MODEL_DIR, RECSERV_MODEL or `model` in the file")
    settings = Settings(**{"model": "", "llm": llm, **values})  # type: ignore[arg-type]
    _check_together(settings, problems)
    if problems:
        raise ConfigError([*problems, *ignored])
    for warning in ignored:
        warn(warning)
    return settings


def setting_of(key: str, flag: object, environ: Mapping[str, str], problems: list[str]) -> Any:
    """One setting, for a command that needs no others: of the flag (None: not given), else of the environment, checked
    as in `load_settings`. None: neither says anything, or a problem was noted.
    """
    name = _label("environment", key)
    if flag is not None:
        return _convert(_label("flag", key), key, flag, environ, problems)
    return _convert(name, key, environ[name], environ, problems) if name in environ else None


def _label(origin: str, key: str) -> str:
    if origin == "environment":
        return ENV_PREFIX + key.upper()
    if origin == "flag":
        return "--" + key.replace("_", "-")
    return f"{origin}: {key}"


def _hint(key: str) -> str:
    near = difflib.get_close_matches(key, KEYS, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _read_toml(path: str, problems: list[str]) -> dict[str, object]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(f"{path}: cannot be read: {error.strerror or error}")
    except UnicodeDecodeError:
        problems.append(f"{path}: is not UTF-8")
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{path}: is not TOML: {error}")
    return {}


def _from_environment(environ: Mapping[str, str], ignored: list[str]) -> dict[str, object]:
    """What the environment sets. Others put variables there too: a name that is no setting does not end the start."""
    values: dict[str, object] = {}
    for name in sorted(environ):
        foreign = name in _ENV_OTHERS or name.startswith(GATEWAY_ENV_PREFIX) or of_kubernetes(name, environ[name])
        if foreign or not name.startswith(ENV_PREFIX):
            continue
        key = name[len(ENV_PREFIX) :].lower()
        if key in _TYPES and name == name.upper():
            values[key] = environ[name]
        else:
            near = difflib.get_close_matches(key, KEYS, n=1)
            hint = f"; did you mean {ENV_PREFIX}{near[0].upper()}?" if near else ""
            ignored.append(f"environment: unknown variable {name}{hint}")
    return values


def of_kubernetes(name: str, value: str) -> bool:
    """Before settings are looked for: a Service "recserv-share" brings RECSERV_SHARE_PORT."""
    if _ENV_KUBERNETES.fullmatch(name):
        return True
    return bool(_ENV_KUBERNETES_PORT.fullmatch(name) and _ENV_KUBERNETES_PORT_VALUE.fullmatch(value))


def _convert(label: str, key: str, raw: object, environ: Mapping[str, str], problems: list[str]) -> object | None:
    """The value of one key, or None after a problem was noted."""
    wanted = _TYPES[key]
    text = isinstance(raw, str)
    if isinstance(raw, str):
        raw = resolved(label, raw, environ, problems)
        if raw is None:
            return None
    if wanted is bool and isinstance(raw, str):
        switch = _SWITCH.get(raw.strip().lower())
        if switch is None:
            problems.append(f"{label}: {raw!r} is neither on nor off")
        return switch
    try:
        value: object = msgspec.convert(raw, wanted, strict=not text)
    except msgspec.ValidationError as error:
        problems.append(f"{label}: {raw!r}: {error}")
        return None
    if isinstance(value, float) and not math.isfinite(value):
        problems.append(f"{label}: {raw!r} is not a finite number")
        return None
    return value if _check_text(label, key, value, problems) else None


def _check_text(label: str, key: str, value: object, problems: list[str]) -> bool:
    """Notes what is wrong with a string setting beyond its type."""
    before = len(problems)
    if key in _CHOICES and value not in _CHOICES[key]:
        problems.append(f"{label}: {value!r} is not one of {', '.join(_CHOICES[key])}")
    if key == "model" and not value:
        problems.append(f"{label}: is empty")
    if key == "listen" or (key == "metrics_listen" and value != "off"):
        try:
            parse_address(str(value))
        except ValueError as error:
            problems.append(f"{label}: {value!r} {error}")
    if key == "state":
        scheme, _, rest = str(value).partition(":")
        if scheme not in _STATES or not rest:
            # The value is not repeated: a URL of a store may hold a password.
            problems.append(f"{label}: is neither embedded:PATH nor redis://HOST:PORT")
    return len(problems) == before


def _check_together(settings: Settings, problems: list[str]) -> None:
    if settings.log_retention_hours < settings.id_retention_hours:
        problems.append(
            f"log_retention_hours ({settings.log_retention_hours:g}) is below"
            f" id_retention_hours ({settings.id_retention_hours:g})"
        )
    if settings.metrics_listen != "off" and settings.metrics_listen == settings.listen and _port(settings.listen):
        problems.append(f"listen and metrics_listen are both {settings.listen}")


def _port(address: str) -> int:
    return parse_address(address)[1]
