"""Rows on what callers see: requests, answers, and what load and failing parts do to them."""

from __future__ import annotations

from recserv.dashboard.panel import OF_SERVER, OF_TENANT, PROCESS, Panel, Query, Row, gauge, one_quantile, rate, rates
from recserv.dashboard.rules import ERRORS, SLOW_S, STREAMS

_CALLS = f'{OF_TENANT},rpc!~"{STREAMS}"'
_ERRORS = rate("recserv_requests_total", "tenant", f'{_CALLS},status=~"{ERRORS}"')
_SLOW = rate("recserv_request_duration_seconds_bucket", "tenant", f'{OF_TENANT},rpc="Recommend",le="{SLOW_S}"')
_RECOMMENDS = rate("recserv_request_duration_seconds_count", "tenant", f'{OF_TENANT},rpc="Recommend"')
_ANSWERS = (
    "("
    + rate("recserv_stage_duration_seconds_count", "tenant", f'{OF_TENANT},stage="state"')
    + " + "
    + rate("recserv_degraded_total", "tenant", f'{OF_TENANT},reason="overload"')
    + ")"
)

ROWS = (
    Row(
        "At a glance",
        (
            Panel(
                "Servers",
                "Servers that Prometheus reaches. Fewer than you run: look at the targets' page, then at their logs.",
                "none",
                (Query(f"count(recserv_build_info{{{OF_SERVER}}})", "servers and workers"),),
                4,
                "stat",
            ),
            Panel(
                "Requests",
                "All RPCs together.",
                "reqps",
                (Query(f"sum(rate(recserv_requests_total{{{OF_TENANT}}}[$__rate_interval]))", "requests"),),
                4,
                "stat",
            ),
            Panel(
                "Errors",
                "Calls that failed by no fault of the caller, streams apart. Above 2%: see by status which it is.",
                "percentunit",
                (
                    Query(
                        f"({_ERRORS} or 0 * {rate('recserv_requests_total', 'tenant', _CALLS)})"
                        f" / {rate('recserv_requests_total', 'tenant', _CALLS)}",
                        "{{tenant}}",
                    ),
                ),
                4,
                "stat",
                red_from=0.02,
            ),
            Panel(
                f"Recommends above {SLOW_S * 1000:.0f} ms",
                "Above 1% the p99 misses its objective: the latency of stages says which part grew.",
                "percentunit",
                (Query(f"1 - {_SLOW} / {_RECOMMENDS}", "{{tenant}}"),),
                4,
                "stat",
                red_from=0.01,
            ),
            Panel(
                "Age of the model",
                "Since it was built. Older than your builds promise: did the build run, was the new one refused?",
                "s",
                (Query(f"max(recserv_model_age_seconds{{{OF_SERVER}}})", "oldest"),),
                4,
                "stat",
                red_from=3 * 86400,
            ),
            Panel(
                "Breakers not closed",
                "Dependencies that are not asked, or only tried. Any: the row on breakers names them.",
                "none",
                (Query(f"count(recserv_breaker_state{{{OF_SERVER}}} > 0) or vector(0)", "breakers"),),
                4,
                "stat",
                red_from=1,
            ),
        ),
    ),
    Row(
        "Requests",
        (
            Panel(
                "Requests by RPC",
                "What callers ask for. A fall to nothing is on their side or in front of the server.",
                "reqps",
                (rates("recserv_requests_total", "rpc"),),
            ),
            Panel(
                "Requests by status",
                "UNAVAILABLE: the store. RESOURCE_EXHAUSTED: load. DEADLINE_EXCEEDED: the client's deadline or a busy"
                " machine. INTERNAL: a fault, its traceback is in the log. INVALID_ARGUMENT: the caller.",
                "reqps",
                (rates("recserv_requests_total", "rpc, status"),),
            ),
            Panel(
                "Latency by RPC, p99",
                "Time in the handler; the network and the waiting before it are not in it. Compare with the stages.",
                "s",
                one_quantile(0.99, "recserv_request_duration_seconds", "rpc", _CALLS),
            ),
            Panel(
                "Latency by RPC, p50",
                "The usual call. Where p99 grows and this does not, something is slow now and then: commits, a reload.",
                "s",
                one_quantile(0.5, "recserv_request_duration_seconds", "rpc", _CALLS),
            ),
            Panel(
                "Latency by stage, p99",
                "state: the store and its network. search, rank: the model and CPU. A stage that is the only one to"
                " grow is the cause; all at once mean too little CPU.",
                "s",
                one_quantile(0.99, "recserv_stage_duration_seconds", "stage"),
            ),
            Panel(
                "Latency by stage, p50",
                "What each part of a usual answer takes.",
                "s",
                one_quantile(0.5, "recserv_stage_duration_seconds", "stage"),
            ),
        ),
    ),
    Row(
        "Answers",
        (
            Panel(
                "Results by source",
                "The source that contributed most to each result. More popular ones than usual: sessions are not found,"
                " or products are not known to the model.",
                "short",
                (rates("recserv_results_total", "source"),),
                stacked=True,
            ),
            Panel(
                "Degraded answers by reason",
                "Share of answers; one may have several reasons. state_*: the store. index_*, ranker_*: the model."
                " deadline: clients give too little time. overload: too few servers.",
                "percentunit",
                (
                    Query(
                        f"{rate('recserv_degraded_total', 'tenant, reason')} / on (tenant) group_left () {_ANSWERS}",
                        "{{reason}} {{tenant}}",
                    ),
                ),
            ),
            Panel(
                "Searches of the vector index",
                "Beside the answers: what the context cache spares. None while there are answers: no index is served.",
                "ops",
                (rates("recserv_index_searches_total", "tenant"),),
            ),
            Panel(
                "Events that name unknown products",
                "They are kept. A rise after the catalogue grew: build a new model. A constant share: a sender uses"
                " other ids than the catalogue.",
                "ops",
                (rates("recserv_unknown_items_total", "tenant"),),
            ),
        ),
    ),
    Row(
        "Load",
        (
            Panel(
                "Calls shed",
                "brief: popular items instead of a full answer. reject: RESOURCE_EXHAUSTED. Add servers or workers.",
                "ops",
                (rates("recserv_shed_calls_total", "verdict", OF_SERVER),),
            ),
            Panel(
                "Calls inside, waiting, and the limit",
                "The limit is found by itself: it falls when calls wait. Inside at the limit for long: too little CPU.",
                "short",
                (
                    gauge("recserv_in_flight_requests", f"inside {PROCESS}"),
                    gauge("recserv_waiting_calls", f"waiting {PROCESS}"),
                    gauge("recserv_concurrency_limit", f"limit {PROCESS}"),
                ),
            ),
            Panel(
                "Open streams",
                "Of events and explanations. Near --max-streams new ones are refused.",
                "short",
                (gauge("recserv_open_streams"),),
            ),
            Panel(
                "Open watches",
                "Of recommendations. Near --max-watches new ones are refused.",
                "short",
                (gauge("recserv_open_watches"),),
            ),
            Panel(
                "Looks of watches",
                "Postponed: there was no room, or no state, and the list stands as it was. Rising: too much to do.",
                "ops",
                (rates("recserv_watch_looks_total", "outcome"),),
            ),
            Panel(
                "Breakers",
                "0 closed, 1 half-open, 2 open. Open for long: what it guards does not recover, its log line has why.",
                "none",
                (
                    Query(
                        f"max by (instance, breaker) (recserv_breaker_state{{{OF_SERVER}}})", "{{breaker}} {{instance}}"
                    ),
                ),
                red_from=1,
            ),
            Panel(
                "Changes of breakers",
                "By new state and cause. One that opens and closes again and again guards something that is half well.",
                "ops",
                (rates("recserv_breaker_transitions_total", "breaker, state, cause", OF_SERVER),),
            ),
            Panel(
                "Calls that breakers refused",
                "Answered without asking: the price of an open breaker, and what it spares.",
                "ops",
                (rates("recserv_breaker_refused_calls", "breaker", OF_SERVER),),
            ),
        ),
    ),
)
