"""Recording rules, and the alerts that an engineer wants to be woken by or to find in the morning.

`page`: shoppers get less than they should, now. `ticket`: nobody is harmed yet, or nobody can tell. Every alert says in
`action` what to look at first. Thresholds are starts: they follow what README says of a healthy server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from recserv.dashboard.yaml_text import Value, yaml_text
from recserv.types import SERVER_ERRORS

JOB = "recserv"
SLOW_S = 0.1
"""What a Recommend may take in the handler; a boundary of the histogram's buckets, so that the share is exact."""
ERRORS = "|".join(SERVER_ERRORS)
STREAMS = "Stream.*|Watch.*"
"""RPCs whose calls stay open: how long says nothing of a server, and one that drains ends them all as UNAVAILABLE."""
_GOOD_LLM = "ok|cancelled|budget_spent"
_GOOD_EVENTS = "accepted|duplicate|store_unavailable"
_PAGE, _TICKET = "page", "ticket"


class Recorded(NamedTuple):
    """A recording rule."""

    name: str
    expr: str


class Alert(NamedTuple):
    """`lasts`: how long the expression holds before it is told. Summaries may name the labels of the result."""

    name: str
    expr: str
    lasts: str
    severity: str
    summary: str
    action: str


RECORDED = (
    Recorded("recserv:requests:rate5m", "sum by (job, tenant, rpc, status) (rate(recserv_requests_total[5m]))"),
    Recorded(
        "recserv:errors:share5m",
        f'sum by (job, tenant, rpc) (recserv:requests:rate5m{{status=~"{ERRORS}"}}'
        f' unless recserv:requests:rate5m{{rpc=~"{STREAMS}",status="UNAVAILABLE"}})\n'
        "  / sum by (job, tenant, rpc) (recserv:requests:rate5m)",
    ),
    Recorded(
        "recserv:slow_recommends:share5m",
        "1 - sum by (job, tenant)"
        f' (rate(recserv_request_duration_seconds_bucket{{rpc="Recommend",le="{SLOW_S}"}}[5m]))\n'
        '  / sum by (job, tenant) (rate(recserv_request_duration_seconds_count{rpc="Recommend"}[5m]))',
    ),
    # Every answer begins with reading the state, but for those that overload shortens; entries of a batch are answers.
    Recorded(
        "recserv:answers:rate5m",
        'sum by (job, tenant) (rate(recserv_stage_duration_seconds_count{stage="state"}[5m]))\n'
        '  + sum by (job, tenant) (rate(recserv_degraded_total{reason="overload"}[5m]))',
    ),
    Recorded(
        "recserv:degraded:share5m",
        "sum by (job, tenant, reason) (rate(recserv_degraded_total[5m]))\n"
        "  / on (job, tenant) group_left () recserv:answers:rate5m",
    ),
    Recorded("recserv:events:rate5m", "sum by (job, tenant, outcome) (rate(recserv_events_total[5m]))"),
)

ALERTS = (
    Alert(
        "RecservNobodyServes",
        f'absent(up{{job="{JOB}"}} == 1)',
        "1m",
        _PAGE,
        "No recserv server answers its scrape",
        "Is a server running, and its --metrics-listen reachable from Prometheus? Ask /healthz and gRPC health."
        " The last lines of its log say why it ended: exit code 2 is a setting, the model or an address.",
    ),
    Alert(
        "RecservInstanceDown",
        f'up{{job="{JOB}"}} == 0',
        "5m",
        _TICKET,
        "{{ $labels.instance }} does not answer its scrape",
        "The others serve. If it was taken away on purpose, take it out of the targets; else see its log.",
    ),
    Alert(
        "RecservNoWorkers",
        "recserv_workers_ready == 0",
        "1m",
        _PAGE,
        "{{ $labels.instance }} has no worker that serves",
        "The parent lives and its workers do not. Its log has their exits; recserv_worker_exits_total has the causes"
        " (a signal 9 is mostly the kernel's out-of-memory killer).",
    ),
    Alert(
        "RecservWorkersEnd",
        "sum by (job, instance, cause) (increase(recserv_worker_exits_total[30m])) > 2",
        "5m",
        _TICKET,
        "Workers of {{ $labels.instance }} keep ending ({{ $labels.cause }})",
        "Each is started again, so little is lost. Look for memory limits first, then at the log before each exit.",
    ),
    Alert(
        "RecservErrors",
        "recserv:errors:share5m > 0.02\n  and sum by (job, tenant, rpc) (recserv:requests:rate5m) > 0.1",
        "5m",
        _PAGE,
        "{{ $value | humanizePercentage }} of {{ $labels.rpc }} fail (tenant {{ $labels.tenant }})",
        "By status: UNAVAILABLE on events is the store, RESOURCE_EXHAUSTED is load, DEADLINE_EXCEEDED a client's"
        " deadline or a busy machine, INTERNAL a fault whose traceback is in the log under its request id.",
    ),
    Alert(
        "RecservDegraded",
        'recserv:degraded:share5m{reason!~"overload|explanation_unavailable"} > 0.05',
        "10m",
        _PAGE,
        "{{ $value | humanizePercentage }} of answers are degraded: {{ $labels.reason }}",
        "state_unavailable and stale_state: the store. index_*, ranker_*, source_*: the log names the part, and a"
        " breaker may be open. deadline: clients ask for less time than the stages take, see the stages' latency.",
    ),
    Alert(
        "RecservSlow",
        "recserv:slow_recommends:share5m > 0.01",
        "10m",
        _PAGE,
        f"The p99 of Recommend is above {SLOW_S * 1000:.0f} ms"
        " ({{ $value | humanizePercentage }} take longer, tenant {{ $labels.tenant }})",
        "Which stage grew? state: Redis or its network. search, rank: CPU taken by others, or a larger model."
        " All of them: too few cores for the load, see calls waiting and the CPU of the process.",
    ),
    Alert(
        "RecservStoreUnavailable",
        "sum by (job, instance, cause) (rate(recserv_store_unavailable_events_total[5m])) > 0",
        "2m",
        _PAGE,
        "{{ $labels.instance }} cannot make events durable: {{ $labels.cause }}",
        "Callers are told UNAVAILABLE and may repeat; whoever does not loses events. disk_full: free the disk of"
        " --state. refused, timeout, loading: Redis. readonly, noreplicas: a failover. auth: credentials.",
    ),
    Alert(
        "RecservBreakerOpen",
        'max by (job, instance, breaker) (recserv_breaker_state{breaker!~"llm:.*"}) > 0',
        "10m",
        _PAGE,
        "The breaker {{ $labels.breaker }} of {{ $labels.instance }} has not closed for ten minutes",
        "What it guards has failed or been slow all that time, and is tried again and again. The log line `circuit"
        " breaker changed` has the cause; store_read and store_write are the store, index and ranker the model.",
    ),
    Alert(
        "RecservOverload",
        "sum by (job, verdict) (rate(recserv_shed_calls_total[5m]))\n"
        "  / on (job) group_left () sum by (job) (rate(recserv_requests_total[5m])) > 0.01",
        "5m",
        _PAGE,
        "{{ $value | humanizePercentage }} of calls find no room: {{ $labels.verdict }}",
        "brief: popular items instead of a full answer; reject: RESOURCE_EXHAUSTED. Add servers or workers; until they"
        " are there, priority decides who is served. A client that retries without backoff is the first suspect.",
    ),
    Alert(
        "RecservModelOld",
        "min by (job, instance) (recserv_model_age_seconds) > 3 * 86400",
        "1h",
        _TICKET,
        "The model on {{ $labels.instance }} was built {{ $value | humanizeDuration }} ago",
        "Did the nightly build run and replace the model directory whole? New products are not recommended until then."
        " Set the limit to what your builds promise.",
    ),
    Alert(
        "RecservModelRefused",
        'sum by (job, instance) (increase(recserv_model_reloads_total{outcome="refused"}[1h])) > 0',
        "0m",
        _TICKET,
        "{{ $labels.instance }} refused a new model; the last good one serves on",
        "The log line `model refused` says what is wrong with which file; `recserv check --model DIR` says it again."
        " The alert ends an hour after the last refusal.",
    ),
    Alert(
        "RecservModelsDiffer",
        "count by (job) (count by (job, version) (recserv_model_info)) > 1",
        "30m",
        _TICKET,
        "Servers of one job have served different models for half an hour",
        "A roll-out that stopped half-way, or a server that does not see the new directory or refused it.",
    ),
    Alert(
        "RecservLlmFailing",
        f'sum by (job, tenant, model) (rate(recserv_llm_calls_total{{outcome!~"{_GOOD_LLM}"}}[15m]))\n'
        "  / sum by (job, tenant, model) (rate(recserv_llm_calls_total[15m])) > 0.5",
        "15m",
        _TICKET,
        "{{ $value | humanizePercentage }} of calls to {{ $labels.model }} fail",
        "Explanations stay the template texts; recommendations are not touched. By outcome: key_refused, rate_limited,"
        " provider_down and timed_out are the provider, unusable and bad_answer the model or its response format.",
    ),
    Alert(
        "RecservLlmBudgetSpent",
        'sum by (job, tenant) (increase(recserv_llm_calls_total{outcome="budget_spent"}[15m])) > 0',
        "5m",
        _TICKET,
        "The budget for explanations is spent (tenant {{ $labels.tenant }})",
        "New texts stay the template until the budget's minute or day is over. See the spend by model, then the"
        " budget in the table [llm] of the settings.",
    ),
    Alert(
        "RecservEventsRefused",
        f'sum by (job, tenant, outcome) (recserv:events:rate5m{{outcome!~"{_GOOD_EVENTS}"}})\n'
        "  / on (job, tenant) group_left () sum by (job, tenant) (recserv:events:rate5m) > 0.05",
        "15m",
        _TICKET,
        "{{ $value | humanizePercentage }} of events are refused: {{ $labels.outcome }} (tenant {{ $labels.tenant }})",
        "A sender changed. invalid_input: the error names the field. event_too_old: a replay, or clocks."
        " event_id_reused: ids that are not unique, so that events are lost.",
    ),
    Alert(
        "RecservEventsRepeated",
        'sum by (job, tenant) (recserv:events:rate5m{outcome="duplicate"})\n'
        "  / sum by (job, tenant) (recserv:events:rate5m) > 0.2",
        "15m",
        _TICKET,
        "{{ $value | humanizePercentage }} of events were here before (tenant {{ $labels.tenant }})",
        "They count once, so nothing is wrong yet: a sender repeats what was acknowledged. Look for timeouts on its"
        " side that are shorter than a commit takes, or for a page that sends twice.",
    ),
    Alert(
        "RecservUnknownItems",
        "sum by (job, tenant) (rate(recserv_unknown_items_total[15m]))\n"
        '  / sum by (job, tenant) (rate(recserv_events_total{outcome="accepted"}[15m])) > 0.2',
        "1h",
        _TICKET,
        "{{ $value | humanizePercentage }} of events name products that the model does not know",
        "They are kept. Either the model is older than the catalogue, or a sender names products by other ids than the"
        " catalogue does (SKUs for parents, for example).",
    ),
    Alert(
        "RecservSessionsEvicted",
        "sum by (job, instance) (rate(recserv_sessions_evicted_total[15m])) > 0",
        "15m",
        _TICKET,
        "{{ $labels.instance }} forgets live sessions for want of memory",
        "Those shoppers are answered as if they were new. Raise --state-memory-mib, or move the state to Redis.",
    ),
)

_HEAD = """\
# Recording rules and alerts for recserv, written by `recserv dashboard`.
# severity `page`: shoppers get less than they should, now; `ticket`: it can wait for the morning.
"""


def alerts_yaml() -> str:
    recorded: list[Value] = [{"record": name, "expr": expr} for name, expr in RECORDED]
    groups: list[Value] = [
        {"name": "recserv-recorded", "rules": recorded},
        {"name": "recserv-alerts", "rules": [_rule(alert) for alert in ALERTS]},
    ]
    return _HEAD + yaml_text({"groups": groups})


def _rule(alert: Alert) -> Mapping[str, Value]:
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": alert.lasts,
        "labels": {"severity": alert.severity},
        "annotations": {"summary": alert.summary, "action": alert.action},
    }
