"""Settings of the language model: the table [llm] of the configuration file.

    table -> every value checked by its type, unknown keys named -> LlmSettings
          -> problems, all of them, each with its path (`llm.models.x.input_per_million`)

A string `env:NAME` stands for that environment variable everywhere; `file:PATH` only for keys.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

TIERS = ("simple", "detailed", "complex")
"""Request classes, from the cheapest to the dearest."""
PRIORITIES = ("low", "normal", "high")
FORMATS = ("json_schema", "json_object", "off")

Dollars = Annotated[float, Meta(ge=0, le=1_000_000)]
Seconds = Annotated[float, Meta(gt=0, le=3600)]
Share = Annotated[float, Meta(gt=0, le=1)]


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the price table: dollars per million tokens."""

    input_per_million: Dollars
    output_per_million: Dollars
    response_format: str = "json_object"
    """json_schema where the endpoint supports it, json_object, or off."""
    extra: dict[str, Any] = {}
    """Put into each request as it is."""


class LlmSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint, its keys, its models, and the limits of what explanations may cost."""

    base_url: str
    """Where /chat/completions is found below."""
    models: dict[str, ModelSettings]
    api_keys: tuple[str, ...] = ()
    """env:NAME or file:PATH (one key a line); the next one serves when one is refused."""
    tiers: dict[str, tuple[str, ...]] = {}
    """simple, detailed, complex -> models in the order in which they are tried; absent: all, as listed."""
    placement_priority: dict[str, str] = {}
    """Placement -> low, normal or high, where the request leaves its priority at normal."""
    placement_tier: dict[str, str] = {}
    """Placement -> tier, whatever the situation."""
    budget_per_day: Dollars = 10.0
    """Dollars over all workers; a UTC day. 0: no limit."""
    budget_per_minute: Dollars = 1.0
    stream: bool = True
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.3
    in_flight_max: Annotated[int, Meta(ge=1, le=1000)] = 50
    """Calls to the provider at once, of one worker."""
    queue_max: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    """Jobs that wait; beyond it the lowest priority is dropped."""
    items_per_call: Annotated[int, Meta(ge=1, le=50)] = 10
    context_items_max: Annotated[int, Meta(ge=0, le=20)] = 3
    """Newest items of the session that make the situation: more of them, fewer shoppers who share a text."""
    job_deadline_s: Seconds = 30.0
    attempt_timeout_s: Seconds = 8.0
    attempts_max: Annotated[int, Meta(ge=1, le=2)] = 2
    """Of one job at one model."""
    retry_ratio: Annotated[float, Meta(ge=0, le=2)] = 0.5
    """Second and later attempts, as a share of the jobs."""
    breaker_failure_rate: Share = 0.6
    breaker_wait_s: Seconds = 5.0
    cache_ttl_s: Annotated[float, Meta(gt=0, le=30 * 86400)] = 86400.0
    """How long a text is shown to others in the same situation."""
    token_ttl_s: Seconds = 600.0


_CHOICES: dict[str, tuple[str, ...]] = {
    "placement_priority": PRIORITIES,
    "placement_tier": TIERS,
    "response_format": FORMATS,
}


def llm_settings(raw: object, origin: str, environ: Mapping[str, str], problems: list[str]) -> LlmSettings | None:
    """The settings of one table; None if there is no telling what was meant. Notes every problem."""
    label = f"{origin}: llm"
    before = len(problems)
    values = _fields(LlmSettings, label, raw, environ, problems)
    if values is None or not isinstance(raw, dict):
        return None
    # What is wrong by itself is noted; what is right must fit together.
    fine = {key: value for key, value in values.items() if value is not None}
    settings = LlmSettings(**{"base_url": "", "models": {}, **fine})
    _check(settings, raw, label, environ, problems)
    return settings if len(problems) == before else None


def resolved(label: str, text: str, environ: Mapping[str, str], problems: list[str]) -> str | None:
    """The text, or what the environment variable holds that it names by `env:NAME`; None after a problem was noted."""
    if not text.startswith("env:"):
        return text
    name = text.removeprefix("env:")
    if not environ.get(name):
        problems.append(f"{label}: the environment variable {name!r} that it names is not set")
        return None
    return environ[name]


def _fields(
    kind: type, label: str, raw: object, environ: Mapping[str, str], problems: list[str]
) -> dict[str, Any] | None:
    """The values of a table, by key."""
    if not isinstance(raw, dict):
        problems.append(f"{label}: is not a table")
        return None
    hints = get_type_hints(kind, include_extras=True)
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1)
            problems.append(f"{label}: unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        else:
            values[key] = _value(hints[key], f"{label}.{key}", key, value, environ, problems)
    required = {field.name for field in msgspec.structs.fields(kind) if field.required}
    problems += [f"{label}.{key}: missing" for key in sorted(required - set(raw))]
    return values


def _value(wanted: Any, label: str, key: str, raw: object, environ: Mapping[str, str], problems: list[str]) -> Any:
    """One value, converted; None after a problem was noted."""
    if get_origin(wanted) is dict and key == "models":
        if not isinstance(raw, dict):
            problems.append(f"{label}: is not a table")
            return None
        kind = get_args(wanted)[1]
        tables = {name: _fields(kind, f"{label}.{name}", table, environ, problems) for name, table in raw.items()}
        return {name: _made(kind, values) for name, values in tables.items() if values is not None}
    if isinstance(raw, str):
        raw = resolved(label, raw, environ, problems)
        if raw is None:
            return None
    try:
        value = msgspec.convert(raw, wanted, strict=not isinstance(raw, str))
    except msgspec.ValidationError as error:
        problems.append(f"{label}: {error}")
        return None
    if isinstance(value, float) and not math.isfinite(value):
        problems.append(f"{label}: is not a finite number")
        return None
    if key in _CHOICES:
        named = value.items() if isinstance(value, dict) else [("", value)]
        for name, choice in named:
            if choice not in _CHOICES[key]:
                place = f"{label}.{name}" if name else label
                problems.append(f"{place}: {choice!r} is not one of {', '.join(_CHOICES[key])}")
    return value


def _made(kind: type, values: dict[str, Any]) -> Any:
    """None where a required value is missing or bad: a problem is noted for it already."""
    required = {field.name for field in msgspec.structs.fields(kind) if field.required}
    return kind(**values) if all(values.get(name) is not None for name in required) else None


def _check(
    settings: LlmSettings, raw: Mapping[str, object], label: str, environ: Mapping[str, str], problems: list[str]
) -> None:
    if settings.base_url:
        problems += [f"{label}.base_url: {fault}" for fault in _url_faults(settings.base_url)]
    named = raw.get("models")
    known = set(named) if isinstance(named, dict) else set()
    if named == {}:
        problems.append(f"{label}.models: names no model")
    for tier, names in settings.tiers.items():
        if tier not in TIERS:
            problems.append(f"{label}.tiers: {tier!r} is not one of {', '.join(TIERS)}")
        problems += [f"{label}.tiers.{tier}: {name!r} is not in {label}.models" for name in names if name not in known]
    for source in settings.api_keys:
        problems += [f"{label}.api_keys: {fault}" for fault in _key_faults(source, environ)]
    if settings.attempt_timeout_s > settings.job_deadline_s:
        problems.append(f"{label}: attempt_timeout_s is above job_deadline_s")
    if 0 < settings.budget_per_day < settings.budget_per_minute:
        problems.append(f"{label}: budget_per_minute is above budget_per_day")


def _url_faults(url: str) -> list[str]:
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        fine = False
    if not fine:
        return ["is not http(s)://HOST/PATH"]
    if parts.username or parts.password or parts.query or parts.fragment:
        return ["may have neither a user nor a query; keys belong into api_keys"]
    return []


def clean_keys(text: str) -> tuple[list[str], int]:
    """The keys of a file or variable, one a line, and how many lines hold something that no header can carry."""
    lines = [line.strip() for line in text.splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    keys = [line for line in found if re.fullmatch(r"[!-~]+", line)]
    return keys, len(found) - len(keys)


def _key_faults(source: str, environ: Mapping[str, str]) -> list[str]:
    """What is wrong with a source of keys. Its value is not repeated unless it is a name."""
    if source.startswith("env:"):
        name = source.removeprefix("env:")
        if not environ.get(name):
            return [f"the environment variable {name!r} that it names is not set"]
        keys, unclean = clean_keys(environ[name])
        return [] if keys and not unclean else [f"the environment variable {name!r} that it names holds no clean key"]
    if source.startswith("file:"):
        path = source.removeprefix("file:")
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            return [f"{path!r} cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}"]
        keys, unclean = clean_keys(text)
        if unclean:
            return [f"{path!r} holds no clean key"]
        return [] if keys else [f"{path!r} holds no key"]
    return ["is neither env:NAME nor file:PATH; a key is not written into the file itself"]
