"""Rows on the parts behind an answer: events and their store, explanations, models and processes."""

from __future__ import annotations

from recserv.dashboard.panel import (
    OF_SERVER,
    OF_TENANT,
    PROCESS,
    Panel,
    Query,
    Row,
    gauge,
    increases,
    one_quantile,
    quantiles,
    rate,
    rates,
)

ROWS = (
    Row(
        "Events and the store",
        (
            Panel(
                "Events by outcome",
                "store_unavailable: the store. invalid_input, event_too_old, event_id_reused: a sender changed."
                " duplicate: a sender repeats, which is safe.",
                "ops",
                (rates("recserv_events_total", "outcome"),),
                stacked=True,
            ),
            Panel(
                "Events accepted by type",
                "A type that stops is a page of the shop that stopped sending.",
                "ops",
                (rates("recserv_events_total", "type", OF_TENANT + ',outcome="accepted"'),),
            ),
            Panel(
                "Commits",
                "How long one takes. p99 of seconds: a disk that stalls, or a Redis that waits for its own.",
                "s",
                quantiles("recserv_commit_duration_seconds", where=OF_SERVER),
            ),
            Panel(
                "Events in a commit",
                "Grows with load, which is what keeps commits few. At the largest bucket the store is the bottleneck.",
                "short",
                quantiles("recserv_commit_events", where=OF_SERVER),
            ),
            Panel(
                "The store's failures",
                "By cause: events that could not be made durable, reads that were not answered, records that could not"
                " be decoded. Events page as RecservStoreUnavailable; reads show as degraded answers.",
                "ops",
                (
                    rates("recserv_store_unavailable_events_total", "cause", OF_SERVER, "events: {{cause}}"),
                    rates("recserv_store_read_failures_total", "cause", OF_SERVER, "reads: {{cause}}"),
                    rates("recserv_store_undecodable_total", "kind", OF_SERVER, "undecodable: {{kind}}"),
                ),
            ),
            Panel(
                "Asked of the store",
                "Attempts and, of them, repetitions. Many of those: connections break, or Redis is near its limits.",
                "ops",
                (
                    rates("recserv_store_attempts", "operation", OF_SERVER, "{{operation}}"),
                    rates("recserv_store_retries_total", "operation", OF_SERVER, "again: {{operation}}"),
                ),
            ),
            Panel(
                "Sessions forgotten before their time",
                "Any: raise --state-memory-mib, or move the state to Redis. Those shoppers are answered as if new.",
                "ops",
                (rates("recserv_sessions_evicted_total", "instance", OF_SERVER),),
            ),
            Panel(
                "Swept from the store",
                "What was older than its retention. Nothing for a day, with events coming in: the sweep does not run.",
                "ops",
                (rates("recserv_store_swept_total", "kind", OF_SERVER),),
            ),
        ),
    ),
    Row(
        "Explanations",
        (
            Panel(
                "Jobs by outcome",
                "ready: all texts written. The others stay the template: budget_spent, provider_failed, expired ...",
                "ops",
                (rates("recserv_explanation_jobs_total", "outcome"),),
                stacked=True,
            ),
            Panel(
                "From the answer to its text",
                "What a shopper waits for a written text. It grows with the queue: more calls at once, or fewer texts.",
                "s",
                quantiles("recserv_explanation_wait_seconds"),
            ),
            Panel(
                "Queue",
                "Jobs that wait and that are worked on. Full for long: the provider is too slow for what is asked.",
                "short",
                (
                    gauge("recserv_explanation_queue_jobs", f"waiting {PROCESS}"),
                    gauge("recserv_explanation_jobs_in_flight", f"worked on {PROCESS}"),
                ),
            ),
            Panel(
                "Texts asked for",
                "hit: already written. joined: in the making for somebody else. Many misses cost money.",
                "ops",
                (rates("recserv_explanation_lookups_total", "result"),),
                stacked=True,
            ),
            Panel(
                "Calls to models",
                "key_refused, rate_limited, provider_down, timed_out: the provider. unusable, bad_answer: the model.",
                "ops",
                (rates("recserv_llm_calls_total", "model, outcome"),),
            ),
            Panel(
                "Time of a call, p99",
                "By model. Near the settings' time limit calls begin to be timed out.",
                "s",
                one_quantile(0.99, "recserv_llm_call_duration_seconds", "model"),
            ),
            Panel(
                "Spend a day, at this rate",
                "estimated: the provider did not say what it used. Compare with the budget in [llm].",
                "currencyUSD",
                (Query(f"{rate('recserv_llm_cost_dollars_total', 'model, basis')} * 86400", "{{model}} {{basis}}"),),
            ),
            Panel(
                "Tokens",
                "As the provider reported them.",
                "ops",
                (rates("recserv_llm_tokens_total", "model, direction"),),
            ),
            Panel(
                "Thrown away and dropped",
                "Texts that broke a rule, by reason; jobs for which something was full, by what.",
                "ops",
                (
                    rates("recserv_explanation_discards_total", "reason", legend="thrown away: {{reason}}"),
                    rates("recserv_explanation_dropped_total", "what", legend="dropped: {{what}}"),
                ),
                24,
            ),
        ),
    ),
    Row(
        "Models and processes",
        (
            Panel(
                "Models that serve",
                "Processes by version. Two for long: a roll-out that stopped half-way.",
                "none",
                (Query(f"count by (version) (recserv_model_info{{{OF_SERVER}}})", "{{version}}"),),
                stacked=True,
            ),
            Panel(
                "Models tried",
                "refused: the log line `model refused` names the file and what is wrong; the last good one serves on.",
                "none",
                (increases("recserv_model_reloads_total", "outcome", "{{outcome}}"),),
            ),
            Panel(
                "Workers",
                "Workers that serve, and those that ended without being told to, by exit code or signal.",
                "none",
                (
                    gauge("recserv_workers_ready", "ready {{instance}}"),
                    increases("recserv_worker_exits_total", "instance, cause", "ended {{instance}} {{cause}}"),
                ),
            ),
            Panel(
                "Resident memory",
                "Workers share the pages of the model, so the sum counts them several times. Growing for days while"
                " what is held does not: memory is fragmented; growing with it: a leak, or state within its limits.",
                "bytes",
                (gauge("process_resident_memory_bytes"),),
            ),
            Panel(
                "Held by the C library's allocator",
                "Arrays, gRPC, SQLite, larger objects.",
                "bytes",
                (gauge("recserv_malloc_in_use_bytes"),),
            ),
            Panel(
                "Held by Python's allocator",
                "Blocks of up to 512 bytes.",
                "short",
                (gauge("recserv_python_blocks"),),
            ),
            Panel(
                "CPU",
                "Cores used by each server, its workers together. As many as it has workers, or one without: add some.",
                "short",
                (rates("process_cpu_seconds_total", "instance", OF_SERVER),),
            ),
            Panel(
                "Open files",
                "And how many there may be. Near it connections are refused: raise the limit of open files.",
                "short",
                (
                    gauge("process_open_fds", f"open {PROCESS}"),
                    gauge("process_max_fds", f"limit {PROCESS}"),
                ),
            ),
            Panel(
                "Uptime",
                "A sawtooth is a process that keeps ending.",
                "s",
                (Query(f"time() - process_start_time_seconds{{{OF_SERVER}}}", PROCESS),),
            ),
            Panel(
                "Log lines dropped",
                "The log's reader is too slow, so lines are missing from it. Nothing waits for it.",
                "ops",
                (rates("recserv_log_lines_dropped_total", "instance", OF_SERVER),),
            ),
            Panel(
                "Builds",
                "What runs where.",
                "none",
                (gauge("recserv_build_info", "{{instance}} {{worker}}"),),
                24,
                "table",
            ),
        ),
    ),
)
