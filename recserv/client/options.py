"""How a client behaves when the server does not: deadlines, retries, keepalive -> gRPC channel options.

Retries are gRPC's own (a service config), so they run below the call, inside its deadline, and are throttled: each
failure costs a token, each success gives back a part of one, and below half of the tokens nothing is tried again. All
RPCs may be retried: reads change nothing, and an event counts once however often it is sent. What is retried:

    UNAVAILABLE          the server drains or restarts, the connection broke, the store is down
    RESOURCE_EXHAUSTED   the server is too busy; its `grpc-retry-pushback-ms` says when to try, or not to
    CANCELLED            a gRPC server that stops ends so what reached it and was not begun (what the caller cancels is
                         not tried again)

With several targets each connection also watches its server's health (gRFC A17): one that drains says NOT_SERVING
before it closes its connections, and gets no more calls. With one target there is nobody else to call, and a server
that drains still answers what comes until then; so it is not asked. A server (each worker of one) lets as many
connections watch as its `max_streams` says; more are served without it.

gRPC's core has no hedging (its service config knows no hedgingPolicy), so that is done by the client itself, for
Recommend and GetContext, and only if `hedge_after_s` is set: it multiplies load exactly when a server is slow.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from recserv.errors import UsageError
from recserv.types import BATCH_EVENTS_MAX

WATCH_TIMEOUT_S = 60.0
SERVICE = "recserv.v1.RecommendationService"
MESSAGE_BYTES_MAX = 4 * 1024 * 1024
RETRIED_METHODS = (
    "Recommend",
    "BatchRecommend",
    "IngestEvent",
    "BatchIngestEvents",
    "GetContext",
    "GetExplanations",
    "WatchExplanations",
    "WatchRecommendations",
)
RETRIED_CODES = ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED")

Seconds = Annotated[float, Meta(gt=0, le=3600)]
Options = TypeVar("Options", "ClientOptions", "StreamOptions")


class ClientOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`timeout_s`: the deadline of a call that names none. `attempts_max` counts the first one, 1 turns retries off.
    `health_checked`: servers that say NOT_SERVING get no calls; None: where several targets are given. Say True for a
    name that stands for several, such as a headless service of Kubernetes. `wait_for_ready`: while no server is
    connected a call waits for one inside its deadline, instead of failing with UNAVAILABLE after its retries.
    `hedge_after_s`: how long a read may take before it is sent a second time.
    """

    timeout_s: Seconds = 2.0
    attempts_max: Annotated[int, Meta(ge=1, le=5)] = 4
    backoff_s: Annotated[float, Meta(ge=0.01, le=3600)] = 0.05
    """Not below 10 ms: gRPC's core rounds a drawn 0.8 ms down to nothing, and then never tries again."""
    backoff_s_max: Seconds = 1.0
    retry_tokens: Annotated[int, Meta(ge=1, le=1000)] = 20
    retry_token_ratio: Annotated[float, Meta(gt=0, le=1)] = 0.1
    keepalive_s: Annotated[float, Meta(ge=10, le=3600)] = 30.0
    """The server counts more frequent pings as abuse."""
    keepalive_timeout_s: Seconds = 5.0
    wait_for_ready: bool = False
    hedge_after_s: Seconds | None = None
    health_checked: bool | None = None


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Of an event stream. At most `events_max` events wait for their acknowledgement, sent in groups of `group_max`. A
    stream that answers nothing for `ack_timeout_s` is given up for another one; an event that is not acknowledged after
    `give_up_s` fails with what was wrong last.
    """

    events_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 5_000
    group_max: Annotated[int, Meta(ge=1, le=BATCH_EVENTS_MAX)] = 100
    ack_timeout_s: Seconds = 15.0
    give_up_s: Seconds = 60.0
    backoff_s: Seconds = 0.05
    backoff_s_max: Seconds = 2.0


# What another resolver than DNS looks up is left to it.
_PORTED = re.compile(r"(unix|unix-abstract|vsock|xds|google-c2p|ipv4|ipv6):.*|(dns:)?.*[^:/]:\d{1,5}")


def checked(options: Options) -> Options:
    """The same. Raises UsageError: a struct does not look at what it is made of."""
    try:
        return msgspec.convert(msgspec.to_builtins(options), type(options))
    except msgspec.ValidationError as error:
        raise UsageError(f"client options: {error}") from error


def channel_target(targets: str | Sequence[str], *, tls: bool = False) -> str:
    """One HOST:PORT (a name that resolves to several addresses is used at all of them), or several IP:PORT. Raises
    UsageError. Only with `tls` a port may be left out: gRPC takes 443.
    """
    if isinstance(targets, str):
        targets = [targets]
    if len(targets) == 1:
        if not tls and not _PORTED.fullmatch(targets[0]):
            raise UsageError(f"{targets[0]!r} has no port: give HOST:PORT, such as 127.0.0.1:50051")
        return targets[0]
    versions = {_ip_version(target) for target in targets}
    if len(versions) != 1 or 0 in versions:
        raise UsageError("several targets must be IP:PORT, all of one IP version; a DNS name may stand for several")
    return f"ipv{versions.pop()}:{','.join(targets)}"


def _ip_version(target: str) -> int:
    host = target.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return 0


def channel_options(options: ClientOptions, targets: str | Sequence[str] = "") -> list[tuple[str, Any]]:
    """`targets`: as for `channel_target`."""
    several = not isinstance(targets, str) and len(targets) > 1
    return [
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.service_config", json.dumps(service_config(options, several=several))),
        # What DNS might say of retries is not for this service.
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.enable_retries", 1 if options.attempts_max > 1 else 0),
        ("grpc.keepalive_time_ms", round(options.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", round(options.keepalive_timeout_s * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        # A server that restarts is back within a second or two; gRPC would look again only after up to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]


def service_config(options: ClientOptions, *, several: bool = False) -> dict[str, Any]:
    """See gRFC A6 for its words."""
    config: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if several if options.health_checked is None else options.health_checked:
        config["healthCheckConfig"] = {"serviceName": SERVICE}
    method: dict[str, Any] = {"name": [{"service": SERVICE, "method": name} for name in RETRIED_METHODS]}
    if options.attempts_max > 1:
        method["retryPolicy"] = {
            "maxAttempts": options.attempts_max,
            "initialBackoff": f"{options.backoff_s:.3f}s",
            "maxBackoff": f"{max(options.backoff_s, options.backoff_s_max):.3f}s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": list(RETRIED_CODES),
        }
        config["retryThrottling"] = {"maxTokens": options.retry_tokens, "tokenRatio": options.retry_token_ratio}
    config["methodConfig"] = [method]
    return config
