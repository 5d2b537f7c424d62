"""Settings of the gateway: flags over `RECSERV_GATEWAY_*` environment over defaults, checked all at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_type_hints

import msgspec
from msgspec import Meta

from recserv.client.options import channel_target
from recserv.config import GATEWAY_ENV_PREFIX, of_kubernetes, parse_address
from recserv.errors import ConfigError, UsageError

Ms = Annotated[int, Meta(ge=1, le=600_000)]
Places = Annotated[int, Meta(ge=1, le=100_000)]
_ORIGIN = re.compile(r"https?://[^/\s*,?#@]+")
_PUBLIC_URL = re.compile(r"https?://[\w.:\[\]-]+(/[\w.~%-]+)*", re.ASCII)
_LEVELS = ("debug", "info", "warning", "error")


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of a gateway. Only `target` has no default."""

    target: str
    """HOST:PORT of the gRPC server; a name that stands for several servers uses all of them."""
    listen: str = "127.0.0.1:8080"
    """HOST:PORT; port 0 takes a free one."""
    allow_origin: tuple[str, ...] = ()
    """Origins whose pages may call, such as https://shop.example; in the environment with commas between them."""
    timeout_ms: Ms = 2_000
    """Deadline of requests that name none."""
    timeout_ms_max: Ms = 60_000
    """No request waits longer, whatever deadline it names; nor does the gateway for a body."""
    body_bytes_max: Annotated[int, Meta(ge=1_024, le=4_194_304)] = 4_194_304
    """Largest body of a request. The server takes messages of 4 MiB, and JSON is larger than the message it encodes."""
    max_in_flight: Places = 256
    """Requests in flight; the next one gets 429."""
    max_streams: Places = 1_000
    """Open streams of explanations."""
    keep_alive_ms: Ms = 5_000
    """How long a connection may be idle between two requests."""
    heartbeat_ms: Ms = 15_000
    """Time between two heartbeats on a stream on which nothing happens."""
    drain_ms: Annotated[int, Meta(ge=0, le=600_000)] = 10_000
    """How long requests in flight may take to finish after SIGTERM."""
    log_level: str = "info"
    max_watches: Places = 1_000
    """Open streams of recommendations. The server bounds its own, too."""
    head_timeout_ms: Ms = 10_000
    """How long a connection may take for the whole head of a request, from its first byte or, for the first
    request, from the connection on."""
    unread_ms: Ms = 60_000
    """How long a caller may leave sent data, heartbeats included, unread before its connection ends."""
    max_connections: Places = 3_000
    """Connections open at once, streams included; the next one gets 503 and is closed."""
    public_url: str = ""
    """Where callers find the gateway, such as https://shop.example/recserv, for its OpenAPI documents; empty: where the
    document was requested."""
    metrics: tuple[str, ...] = ()
    """HOST:PORT where servers are scraped, for the page at /status; in the environment with commas between them."""
    page: bool = False
    """Serve a page for people under /look/."""
    images: bool = False
    """Let the page show a catalogue's images: browsers contact the hosts that its image_uri names."""
    compare: str = ""
    """HOST:PORT of a second server, whose paths lie below /compare; the page shows its answers beside the first's."""


KEYS = GatewaySettings.__struct_fields__
LISTS = ("allow_origin", "metrics")
_METRICS_MAX = 16
_TYPES: dict[str, Any] = get_type_hints(GatewaySettings, include_extras=True)


def load_gateway_settings(
    flags: Mapping[str, object], environ: Mapping[str, str], warn: Callable[[str], None] = lambda _: None
) -> GatewaySettings:
    """`flags`: by key; None means not given. `warn` gets a line for each variable that is no setting. Raises
    ConfigError with every problem at once.
    """
    problems: list[str] = []
    values: dict[str, Any] = {}
    for key in KEYS:
        name = GATEWAY_ENV_PREFIX + key.upper()
        if flags.get(key) is not None:
            values[key] = _convert("--" + key.replace("_", "-"), key, flags[key], problems)
        elif name in environ and not of_kubernetes(name, environ[name]):
            raw = environ[name]
            values[key] = _convert(name, key, _split(raw) if key in LISTS else raw, problems)
    if "target" not in values:
        problems.append(f"target: missing; give --target HOST:PORT or {GATEWAY_ENV_PREFIX}TARGET")
    if problems:
        raise ConfigError(problems)
    settings = GatewaySettings(**values)
    if settings.timeout_ms > settings.timeout_ms_max:
        problems.append(f"timeout_ms ({settings.timeout_ms}) is above timeout_ms_max ({settings.timeout_ms_max})")
    streams = settings.max_streams + settings.max_watches
    if streams >= settings.max_connections:
        # Each stream holds a connection, for hours: none would be left for requests or health probes.
        problems.append(
            f"max_streams and max_watches ({streams} together) leave nothing of max_connections"
            f" ({settings.max_connections}) for requests"
        )
    if problems:
        raise ConfigError(problems)
    for name in sorted(environ):
        ours = name.startswith(GATEWAY_ENV_PREFIX) and not of_kubernetes(name, environ[name])
        if ours and name[len(GATEWAY_ENV_PREFIX) :].lower() not in KEYS:
            warn(f"environment: unknown variable {name}")
    return settings


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _convert(label: str, key: str, raw: object, problems: list[str]) -> Any:
    try:
        value = msgspec.convert(raw, _TYPES[key], strict=False)
        _check(key, value)
    except (msgspec.ValidationError, ValueError, UsageError) as error:
        problems.append(f"{label}: {raw!r}: {error}")
        return None
    return value


def _check(key: str, value: Any) -> None:
    """Checks what a type cannot; what is raised says what is wrong."""
    if key == "listen":
        parse_address(value)
    elif key == "target" or (key == "compare" and value):
        channel_target(value)
    elif key == "public_url" and value and not _PUBLIC_URL.fullmatch(value):
        raise ValueError("is no URL such as https://shop.example/recserv, without a slash at its end")
    elif key == "metrics":
        if len(value) > _METRICS_MAX:
            raise ValueError(f"are more than {_METRICS_MAX} addresses")
        if len(set(value)) < len(value):
            raise ValueError("name an address twice, whose server would count twice")
        for address in value:
            parse_address(address)
    elif key == "log_level" and value not in _LEVELS:
        raise ValueError(f"is not one of {', '.join(_LEVELS)}")
    elif key == "allow_origin":
        for origin in value:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin such as https://shop.example; there is none for everybody")
