"""`GET /status`: how the servers behind the gateway are doing, for whoever has no Grafana.

Written anew after each round of samples (see `scrapes`), as HTML without script: the browser reloads it by itself.
Whatever comes from a server is shown as text, whatever it looks like.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from html import escape

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from recserv.gateway.figures import Rates, Seen, gauges, requests_over_time
from recserv.gateway.methods import STREAMS
from recserv.gateway.scrapes import EVERY_S, Limits, Sampler
from recserv.gateway.status_style import STYLE
from recserv.types import SERVER_ERRORS

ROWS_MAX = 40
_REFRESH_S = 5
_BREAKER = {0: '<span class="good">closed</span>', 1: '<span class="bad">half-open</span>'}
_OPEN = '<span class="bad">open</span>'
_UNKNOWN = "\N{EN DASH}"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    f" style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'",
    "Referrer-Policy": "no-referrer",
}
Endpoint = Callable[[Request], Awaitable[Response]]


def status_routes(
    addresses: Sequence[str],
    placed: Callable[[Endpoint], Endpoint],
    draining: asyncio.Event,
    limits: Limits | None = None,
) -> list[Route]:
    """No routes without addresses. `placed` gives a request its place among those in flight."""
    if not addresses:
        return []
    page = StatusPage(Sampler(addresses, draining, limits))
    return [Route("/status", placed(page.answer), methods=["GET"])]


class StatusPage:
    def __init__(self, sampler: Sampler):
        self._sampler = sampler
        self._round, self._html = 0, b""
        self._writing = asyncio.Lock()

    async def answer(self, _: Request) -> Response:
        seen = await self._sampler.look()
        # Once for each round, however many look, and off the loop, since it takes some milliseconds.
        async with self._writing:
            if self._round != (newest := self._sampler.rounds):
                self._html = (await asyncio.to_thread(page_html, seen, time.time())).encode()
                self._round = newest
        return Response(self._html, 200, _HEADERS, "text/html; charset=utf-8")


def page_html(seen: Sequence[Seen], now_s: float) -> str:
    """`now_s`: since the epoch."""
    rates = Rates(seen)
    measured = f"of the last {rates.seconds:.0f} s" if rates.seconds else "to come with the next samples"
    cards = "".join((_rpcs(rates), _stages(rates), _sources(rates), _degraded(rates), _events(rates), _breakers(seen)))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>recserv status</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="refresh" content="{_REFRESH_S if rates.seconds else math.ceil(EVERY_S)}">'
        f"<style>{STYLE}</style></head><body><main>"
        f'<header><h1>recserv status</h1><p class="soft">Rates are {measured}, as of'
        f" {time.strftime('%H:%M:%S', time.gmtime(now_s))} UTC.</p></header>"
        f"{''.join(map(_problem, seen))}{_tiles(seen, rates)}{_chart(seen)}"
        f'<div class="cards">{cards}</div>{_processes(seen, now_s)}</main></body></html>\n'
    )


def _problem(one: Seen) -> str:
    if not one.problem:
        return ""
    kept = " What is shown of it is older." if one.samples else ""
    return f'<p class="problem" role="alert"><strong>{escape(one.address)}</strong> {escape(one.problem)}.{kept}</p>'


def _tiles(seen: Sequence[Seen], rates: Rates) -> str:
    requests = rates.total("recserv_requests_total")
    errors = sum(per_s for call, per_s in rates.by("recserv_requests_total", "rpc", "status").items() if _failed(*call))
    answers, worst = _answers(rates), max(rates.by("recserv_degraded_total", "reason").values(), default=0.0)
    handled = rates.histograms("recserv_request_duration_seconds", "rpc").get("Recommend")
    ages = [value for one in seen for _, value in gauges(one, "recserv_model_age_seconds")]
    served = {labels.get("version", "") for one in seen for labels, _ in gauges(one, "recserv_model_info")}
    return (
        '<dl class="tiles">'
        + _tile("Requests", f"{_number(requests)}/s", "all RPCs")
        + _tile("Errors", _share(errors, requests), "not the caller's doing", bad=errors > 0.02 * requests)
        + _tile("Recommend p99", _time(handled.quantile(0.99)) if handled else _UNKNOWN, "in the handler")
        + _tile("Degraded", _share(worst, answers), "by the commonest reason", bad=worst > 0.05 * answers)
        + _tile("Model built", _span(max(ages, default=math.nan)), f"ago; {_counted(len(served), 'version')} served")
        + _tile(
            "Workers",
            str(sum(map(_workers, seen))),
            f"on {sum(not one.problem for one in seen)} of {_counted(len(seen), 'server')}",
        )
        + "</dl>"
    )


def _failed(rpc: str, status: str) -> bool:
    """By no fault of the caller. A draining server ends all streams as UNAVAILABLE: they go on at another one."""
    return status in SERVER_ERRORS and (rpc not in STREAMS or status != "UNAVAILABLE")


def _answers(rates: Rates) -> float:
    """Every answer, in a batch or alone, begins with the stage `state`, except for those that overload shortens."""
    overload = rates.total("recserv_degraded_total", reason="overload")
    return rates.total("recserv_stage_duration_seconds_count", stage="state") + overload


def _tile(name: str, value: str, below: str, *, bad: bool = False) -> str:
    mark = ' class="bad"' if bad else ""
    return f'<div class="tile"><dt>{name}</dt><dd{mark}>{value}</dd><dd>{below}</dd></div>'


def _workers(one: Seen) -> int:
    if not one.samples:
        return 0
    ready = gauges(one, "recserv_workers_ready")
    return round(ready[0][1]) if ready and math.isfinite(ready[0][1]) else 1


def _chart(seen: Sequence[Seen]) -> str:
    steps = requests_over_time(seen)
    if len(steps) < 2:
        return ""
    first_s, highest = steps[0][0], max(per_s for _, per_s in steps) or 1.0
    points = [(600 * (1 - at_s / first_s) if first_s else 0.0, 100 - 94 * per_s / highest) for at_s, per_s in steps]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return (
        f'<section class="wide"><h2>Requests, at most {_number(highest)}/s</h2>'
        '<svg class="chart" viewBox="0 0 600 100" preserveAspectRatio="none" role="img" aria-label="requests a second">'
        f'<polygon points="0,100 {line} 600,100" fill="currentColor" fill-opacity="0.12"/>'
        f'<polyline points="{line}" fill="none" stroke="currentColor" stroke-width="2"'
        ' vector-effect="non-scaling-stroke"/></svg>'
        f'<p class="axis"><span>{-first_s:.0f} s ago</span><span>now</span></p></section>'
    )


def _rpcs(rates: Rates) -> str:
    """Times are per RPC, whatever its status, so its first row has them; a stream's would tell how long it was open."""
    times = rates.histograms("recserv_request_duration_seconds", "rpc")
    rows = []
    for (rpc, status), per_s in rates.by("recserv_requests_total", "rpc", "status").items():
        if per_s > 0:
            took = times.pop(rpc, None) if rpc not in STREAMS else None
            quantiles = [_time(took.quantile(share)) if took else "" for share in (0.5, 0.99)]
            mark = ' class="word bad"' if _failed(rpc, status) else ' class="word"'
            rows.append(_row(rpc, f"<td{mark}>{escape(status)}</td>", *_cells(_number(per_s), *quantiles)))
    return _card("Requests by RPC and status", ("RPC", "status", "per second", "p50", "p99"), rows, "No requests.")


def _stages(rates: Rates) -> str:
    rows = [
        _row(stage, *_cells(_number(took.per_s), _time(took.quantile(0.5)), _time(took.quantile(0.99))))
        for stage, took in rates.histograms("recserv_stage_duration_seconds", "stage").items()
        if took.per_s > 0
    ]
    return _card("Latency by stage", ("stage", "per second", "p50", "p99"), rows, "No answers were made.")


def _sources(rates: Rates) -> str:
    found = {source: per_s for (source,), per_s in rates.by("recserv_results_total", "source").items() if per_s > 0}
    rows = _with_shares(found, sum(found.values()))
    return _card("Results by source", ("source", "per second", "share", ""), rows, "No results.")


def _degraded(rates: Rates) -> str:
    found = {reason: per_s for (reason,), per_s in rates.by("recserv_degraded_total", "reason").items() if per_s > 0}
    shed = {f"shed: {verdict}": n for (verdict,), n in rates.by("recserv_shed_calls_total", "verdict").items() if n > 0}
    rows = _with_shares(found, _answers(rates)) + _with_shares(shed, rates.total("recserv_requests_total"))
    nothing = '<span class="good">Every answer is whole.</span>'
    return _card("Degraded answers by reason", ("reason", "per second", "of answers", ""), rows, nothing)


def _events(rates: Rates) -> str:
    found = {word: per_s for (word,), per_s in rates.by("recserv_events_total", "outcome").items() if per_s > 0}
    lost = rates.by("recserv_store_unavailable_events_total", "cause")
    rows = _with_shares(found, sum(found.values()))
    rows += [_row(f"not durable: {cause}", *_cells(_number(n), "", "")) for (cause,), n in lost.items() if n > 0]
    return _card("Events by outcome", ("outcome", "per second", "share", ""), rows, "No events.")


def _breakers(seen: Sequence[Seen]) -> str:
    rows = []
    for one in seen:
        for labels, value in gauges(one, "recserv_breaker_state"):
            state = f'<td class="word">{_BREAKER.get(value, _OPEN)}</td>'  # type: ignore[call-overload]
            rows.append(_row(labels.get("breaker", ""), state, _where(one, labels)))
    return _card("Breakers", ("guards", "state", "where"), rows, "None.")


def _processes(seen: Sequence[Seen], now_s: float) -> str:
    """A row for each process, with the model that it serves."""
    rows = []
    for one in seen:
        facts = {
            name: {labels.get("worker", ""): value for labels, value in gauges(one, name)}
            for name in ("recserv_model_age_seconds", "process_start_time_seconds", "recserv_in_flight_requests")
        }
        versions = {labels.get("worker", ""): labels for labels, _ in gauges(one, "recserv_model_info")}
        builds = {labels.get("worker", ""): labels for labels, _ in gauges(one, "recserv_build_info")}
        for labels, resident in gauges(one, "process_resident_memory_bytes"):
            worker = labels.get("worker", "")
            age_s, start_s, inside = (named.get(worker, math.nan) for named in facts.values())
            version = versions.get(worker, {}).get("version", _UNKNOWN)
            cells = _cells(_span(now_s - start_s), f"{_number(resident / 1e6)} MB", _number(inside), _span(age_s))
            model = f'<td class="word">{escape(_short(version))}</td>'
            rows.append(
                _row(_place(one, labels), *cells, model, *_cells(builds.get(worker, {}).get("version", _UNKNOWN)))
            )
    head = ("process", "uptime", "memory", "calls inside", "model's age", "model", "recserv")
    return f'<div class="last">{_card("Processes and their models", head, rows, "No server has answered yet.")}</div>'


def _where(one: Seen, labels: dict[str, str]) -> str:
    return f"<td>{escape(_place(one, labels))}</td>"


def _place(one: Seen, labels: dict[str, str]) -> str:
    return f"{one.address} {labels.get('worker', '')}".rstrip()


def _with_shares(found: dict[str, float], whole: float) -> list[str]:
    return [
        _row(name, *_cells(_number(per_s), _share(per_s, whole)), f'<td class="share">{_bar(per_s, whole)}</td>')
        for name, per_s in found.items()
    ]


def _bar(part: float, whole: float) -> str:
    width = min(100.0, 100 * part / whole) if whole > 0 and math.isfinite(part / whole) else 0.0
    return (
        '<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{width:.1f}" height="10" rx="1" fill="currentColor"/></svg>'
    )


def _card(title: str, head: Iterable[str], rows: list[str], nothing: str) -> str:
    if not rows:
        return f'<section><h2>{title}</h2><p class="soft">{nothing}</p></section>'
    names = "".join(f'<th scope="col"{_left(name)}>{name}</th>' for name in head)
    more = f'<p class="soft">And {len(rows) - ROWS_MAX} more.</p>' if len(rows) > ROWS_MAX else ""
    return (
        f'<section><h2>{title}</h2><div class="scroll" tabindex="0" role="region" aria-label="{title}"><table><thead>'
        f"<tr>{names}</tr></thead><tbody>{''.join(rows[:ROWS_MAX])}</tbody></table></div>{more}</section>"
    )


def _left(name: str) -> str:
    return ' class="left"' if name in ("status", "state", "model") else ""


def _row(name: str, *cells: str) -> str:
    return f'<tr><th scope="row">{escape(_short(name))}</th>{"".join(cells)}</tr>'


def _cells(*values: str) -> list[str]:
    return [f"<td>{escape(value)}</td>" for value in values]


def _short(text: str, longest: int = 60) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _number(value: float) -> str:
    if not math.isfinite(value):
        return _UNKNOWN
    if 0 < abs(value) < 0.01:
        return "<0.01"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _share(part: float, whole: float) -> str:
    if not (whole > 0 and math.isfinite(part / whole)):
        return _UNKNOWN
    share = 100 * part / whole
    return "0%" if share == 0 else "<0.1%" if share < 0.1 else f"{share:.1f}%" if share < 99.95 else "100%"


def _time(seconds: float) -> str:
    """Three digits at most: the buckets are no more precise."""
    if not math.isfinite(seconds):
        return _UNKNOWN
    return (
        f"{seconds * 1e6:.0f} µs"
        if seconds < 0.001
        else f"{seconds * 1e3:.3g} ms"
        if seconds < 1
        else f"{seconds:.3g} s"
    )


def _span(seconds: float) -> str:
    """In the largest unit of which there are at least two."""
    if not math.isfinite(seconds):
        return _UNKNOWN
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if abs(seconds) >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} s"
