"""Made-up series for every alert: one on which it must be told, one on which it must stay silent.

Values are in promtool's notation: `0+30x60` begins at 0 and grows by 30 a minute, sixty times.
"""

from __future__ import annotations

from typing import NamedTuple

Series = dict[str, str]
_OF = 'job="recserv",instance="a:9464"'
_TENANT = f'{_OF},tenant="default"'
_MINUTES = 240


def _grows(by: float) -> str:
    return f"0+{by:g}x{_MINUTES}"


def _stays(at: float) -> str:
    return f"{at:g}x{_MINUTES}"


def _requests(status: str, rpc: str = "Recommend") -> str:
    return f'recserv_requests_total{{{_TENANT},rpc="{rpc}",status="{status}"}}'


def _bucket(le: str) -> str:
    return f'recserv_request_duration_seconds_bucket{{{_TENANT},rpc="Recommend",le="{le}"}}'


_RECOMMENDS = f'recserv_request_duration_seconds_count{{{_TENANT},rpc="Recommend"}}'
_STATE = f'recserv_stage_duration_seconds_count{{{_TENANT},stage="state"}}'


def _degraded(reason: str) -> str:
    return f'recserv_degraded_total{{{_TENANT},reason="{reason}"}}'


def _events(outcome: str) -> str:
    return f'recserv_events_total{{{_TENANT},type="view",outcome="{outcome}"}}'


def _llm(outcome: str) -> str:
    return f'recserv_llm_calls_total{{{_TENANT},model="m",outcome="{outcome}"}}'


_UP = f"up{{{_OF}}}"
_READY = f"recserv_workers_ready{{{_OF}}}"
_EXITS = f'recserv_worker_exits_total{{{_OF},cause="signal 9"}}'
_UNAVAILABLE = f'recserv_store_unavailable_events_total{{{_OF},cause="disk_full"}}'
_BREAKER = f'recserv_breaker_state{{{_OF},breaker="store_write"}}'
_LLM_BREAKER = f'recserv_breaker_state{{{_OF},breaker="llm:m"}}'
_SHED = f'recserv_shed_calls_total{{{_OF},verdict="reject"}}'
_AGE = f"recserv_model_age_seconds{{{_OF}}}"
_REFUSED = f'recserv_model_reloads_total{{{_OF},outcome="refused"}}'
_UNKNOWN = f"recserv_unknown_items_total{{{_TENANT}}}"
_EVICTED = f"recserv_sessions_evicted_total{{{_OF}}}"
_BUSY = _grows(6000)


def _model(instance: str, version: str) -> str:
    return f'recserv_model_info{{job="recserv",instance="{instance}",version="{version}"}}'


class Case(NamedTuple):
    """`at`: when it is told at the latest, in Prometheus's notation; it is silent on `healthy` at that time."""

    alert: str
    at: str
    sick: Series
    healthy: Series
    labels: dict[str, str]


_BY_JOB, _BY_INSTANCE = {"job": "recserv"}, {"job": "recserv", "instance": "a:9464"}
_BY_TENANT = {"job": "recserv", "tenant": "default"}

CASES = (
    Case("RecservNobodyServes", "5m", {_UP: _stays(0)}, {_UP: _stays(1)}, {}),
    Case("RecservInstanceDown", "10m", {_UP: _stays(0)}, {_UP: f"1x2 0x2 1x{_MINUTES}"}, _BY_INSTANCE),
    Case("RecservNoWorkers", "5m", {_READY: _stays(0)}, {_READY: _stays(2)}, _BY_INSTANCE),
    Case(
        *("RecservWorkersEnd", "40m", {_EXITS: _grows(1)}, {_EXITS: f"0x20 1x{_MINUTES}"}),
        {**_BY_INSTANCE, "cause": "signal 9"},
    ),
    Case(
        *("RecservErrors", "20m"),
        {_requests("OK"): _BUSY, _requests("UNAVAILABLE"): _grows(300)},
        # What callers do wrong is no error of the server's, and streams that go on elsewhere are none at all.
        {
            _requests("OK"): _BUSY,
            _requests("INVALID_ARGUMENT"): _grows(6000),
            _requests("INTERNAL"): _grows(60),
            _requests("UNAVAILABLE", "WatchRecommendations"): _grows(300),
        },
        {**_BY_TENANT, "rpc": "Recommend"},
    ),
    Case(
        *("RecservDegraded", "30m"),
        {_STATE: _BUSY, _degraded("overload"): _grows(0), _degraded("state_unavailable"): _grows(600)},
        {
            _STATE: _BUSY,
            _degraded("overload"): _grows(600),
            _degraded("explanation_unavailable"): _BUSY,
            _degraded("deadline"): _grows(60),
        },
        {**_BY_TENANT, "reason": "state_unavailable"},
    ),
    Case(
        *("RecservSlow", "30m", {_bucket("0.1"): _grows(5800), _RECOMMENDS: _BUSY}),
        {_bucket("0.1"): _grows(5990), _RECOMMENDS: _BUSY},
        _BY_TENANT,
    ),
    Case(
        *("RecservStoreUnavailable", "15m", {_UNAVAILABLE: _grows(5)}, {_UNAVAILABLE: _stays(5)}),
        {**_BY_INSTANCE, "cause": "disk_full"},
    ),
    Case(
        *("RecservBreakerOpen", "20m", {_BREAKER: f"0x2 2x5 1 2x{_MINUTES}"}),
        {_BREAKER: f"0x10 2x2 1 0x{_MINUTES}", _LLM_BREAKER: _stays(2)},
        {**_BY_INSTANCE, "breaker": "store_write"},
    ),
    Case(
        *("RecservOverload", "20m", {_requests("OK"): _BUSY, _SHED: _grows(600)}),
        {_requests("OK"): _BUSY, _SHED: _grows(30)},
        {**_BY_JOB, "verdict": "reject"},
    ),
    Case("RecservModelOld", "2h", {_AGE: f"258000+60x{_MINUTES}"}, {_AGE: f"86400+60x{_MINUTES}"}, _BY_INSTANCE),
    Case("RecservModelRefused", "30m", {_REFUSED: f"0x20 1x{_MINUTES}"}, {_REFUSED: _stays(3)}, _BY_INSTANCE),
    Case(
        *("RecservModelsDiffer", "45m", {_model("a", "1"): _stays(1), _model("b", "2"): _stays(1)}),
        {_model("a", "1"): _stays(1), _model("b", "2"): "1x10 stale", _model("b", "1"): f"_x11 1x{_MINUTES}"},
        _BY_JOB,
    ),
    Case(
        *("RecservLlmFailing", "45m", {_llm("ok"): _grows(10), _llm("provider_down"): _grows(30)}),
        {_llm("ok"): _grows(30), _llm("timed_out"): _grows(10), _llm("budget_spent"): _grows(90)},
        {**_BY_TENANT, "model": "m"},
    ),
    Case(
        *("RecservLlmBudgetSpent", "30m", {_llm("ok"): _grows(1), _llm("budget_spent"): _grows(2)}),
        {_llm("ok"): _grows(30), _llm("budget_spent"): _stays(7)},
        _BY_TENANT,
    ),
    Case(
        *("RecservEventsRefused", "40m", {_events("accepted"): _BUSY, _events("invalid_input"): _grows(600)}),
        {_events("accepted"): _BUSY, _events("invalid_input"): _grows(60), _events("duplicate"): _grows(900)},
        {**_BY_TENANT, "outcome": "invalid_input"},
    ),
    Case(
        *("RecservEventsRepeated", "40m", {_events("accepted"): _BUSY, _events("duplicate"): _grows(3000)}),
        {_events("accepted"): _BUSY, _events("duplicate"): _grows(600)},
        _BY_TENANT,
    ),
    Case(
        *("RecservUnknownItems", "100m", {_events("accepted"): _BUSY, _UNKNOWN: _grows(3000)}),
        {_events("accepted"): _BUSY, _UNKNOWN: _grows(300)},
        _BY_TENANT,
    ),
    Case("RecservSessionsEvicted", "40m", {_EVICTED: _grows(3)}, {_EVICTED: _stays(3)}, _BY_INSTANCE),
)

HEALTHY: Series = {
    _UP: _stays(1),
    _requests("OK"): _BUSY,
    _requests("INVALID_ARGUMENT"): _grows(10),
    _requests("UNAVAILABLE"): _grows(1),
    _bucket("0.1"): _grows(5995),
    _RECOMMENDS: _BUSY,
    _STATE: _BUSY,
    _degraded("overload"): _stays(0),
    _degraded("deadline"): _grows(5),
    _events("accepted"): _BUSY,
    _events("duplicate"): _grows(5),
    _events("invalid_input"): _grows(5),
    _UNKNOWN: _grows(50),
    _BREAKER: _stays(0),
    _LLM_BREAKER: _stays(0),
    _SHED: _stays(0),
    _AGE: f"0+60x{_MINUTES}",
    _REFUSED: _stays(0),
    _EVICTED: _stays(0),
    _READY: _stays(4),
    _model("a:9464", "1"): _stays(1),
    _llm("ok"): _grows(60),
    _llm("timed_out"): _grows(1),
}
"""A server on which nothing is told at all."""
