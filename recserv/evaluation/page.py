"""An evaluation as one page for a person: figures first, then why to believe them, then examples.

    EvaluationReport -> page(report) -> HTML, whole in itself: no script, no font, no image, nothing from a network

The same report gives the same bytes. Whatever comes from a shop's files, titles and ids above all, goes through `text`.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from string import Template

from recserv.evaluation.examples import Example, Product, Suggested
from recserv.evaluation.figures import EvaluationReport, SourceFigures
from recserv.evaluation.intervals import Interval
from recserv.evaluation.metrics import MetricsAt, NextItemMetrics
from recserv.evaluation.page_facts import facts, measured_text, times_better
from recserv.evaluation.page_style import STYLE

NAMES = {"covisitation": "Co-visitation alone", "session_knn": "Session-kNN alone", "popular": "Popularity alone"}
WHOLE = "All together"
_SOURCES = {
    "context_vector": "vector",
    "covisitation": "together",
    "session_knn": "similar sessions",
    "popular": "popular",
    "popular_in_category": "category",
    "trending": "trending",
}
_SCALES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="robots" content="noindex">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
""")


def page(report: EvaluationReport) -> str:
    """The page, as text in UTF-8."""
    title = f"Next item: model {report.model_version}, {report.file}"
    body = "\n".join(
        part
        for part in (
            f"<h1>{text(title)}</h1>",
            _answer(report),
            _notes(report),
            _sources(report),
            _kinds(report),
            _examples(report.examples),
            _about(report),
        )
        if part
    )
    return _PAGE.substitute(title=text(title), style=STYLE, body=body)


def text(given: object) -> str:
    """Escapes any string, a shop's or ours, so that it is only ever text."""
    return html.escape(str(given), quote=True)


def _foreign(given: str) -> str:
    """A name in any script, isolated so that it does not reorder the text around it."""
    return f"<bdi>{text(given)}</bdi>"


def _whole(report: EvaluationReport) -> str:
    return report.label.capitalize() or WHOLE


def _last(report: EvaluationReport) -> MetricsAt:
    return report.at[-1]


def _answer(report: EvaluationReport) -> str:
    best = _last(report)
    hits = best.hit_rate
    found = f"In {hits.value * 100:.0f} of 100 cases the item that came next was among the first {best.k} recommended"
    compared = times_better(report)
    return (
        f'<div class="answer"><div class="figure">{hits.value:.1%}</div>'
        f'<p>{text(found)}{text(compared)}. <span class="soft">{text(_between(hits))} with 95 % confidence;'
        f" {report.overall.count:,} questions about {report.sessions:,} sessions.</span></p></div>"
    )


def _between(interval: Interval) -> str:
    return f"{interval.low:.1%} to {interval.high:.1%}"


def _notes(report: EvaluationReport) -> str:
    notes = [f'<div class="note warn" role="note"><p>{text(warning)}</p></div>' for warning in report.warnings]
    if report.seen is not None and not report.seen.warns:
        kind = "good" if report.seen.verdict in ("kept", "later", "unseen") else ""
        notes.insert(0, f'<div class="note {kind}"><p>{text(report.seen.text)}</p></div>')
    return "\n".join(notes)


def _sources(report: EvaluationReport) -> str:
    """The whole and each source alone: as bars, and in figures."""
    if not report.at:
        return ""
    rows = [(_whole(report), _last(report).hit_rate, True)]
    rows += [(NAMES[one.name], one.at[-1].hit_rate, False) for one in report.sources]
    top = next(scale for scale in _SCALES if scale >= max(interval.high for _, interval, _ in rows) or scale == 1.0)
    bars = "\n".join(_bar(name, interval, top, whole) for name, interval, whole in rows)
    told = (
        "The same questions, asked of each source by its own scores: what a shop could have without the rest."
        if report.sources
        else "The share of next items among the first 20 recommended."
    )
    return (
        f"<h2>{'What the parts would find alone' if report.sources else 'How much is found'}</h2>\n"
        f'<p class="soft">{told} Bars show HR@20, the thin lines 95 % intervals.</p>\n'
        f'<div class="bars">\n{bars}\n</div>\n{_source_table(report)}'
    )


def _bar(name: str, interval: Interval, top: float, whole: bool) -> str:
    width, low, high = (100 * value / top for value in (interval.value, interval.low, interval.high))
    said = f"{name}: HR@20 {interval.value:.3f}, {interval.low:.3f} to {interval.high:.3f}"
    fill = "var(--bar)" if whole else "var(--other)"
    line = 'stroke="var(--whisker)" stroke-width="1.5" vector-effect="non-scaling-stroke"'
    return (
        f'<div class="bar"><span class="name">{text(name)}</span>'
        f'<svg role="img" aria-label="{text(said)}" viewBox="0 0 100 10" preserveAspectRatio="none">'
        f'<rect x="0" y="1" width="{width:.2f}" height="8" fill="{fill}"/>'
        f'<path d="M{low:.2f} 5H{high:.2f}M{low:.2f} 3V7M{high:.2f} 3V7" fill="none" {line}/></svg>'
        f'<span class="value">{interval.value:.3f}</span></div>'
    )


def _source_table(report: EvaluationReport) -> str:
    head = ["", "HR@5", "HR@10", "HR@20", "MRR@20", "NDCG@20", "Coverage"]
    if report.sources:
        head.insert(6, "All together is better by")
    rows = [_source_row(_whole(report), report.at, None, report.coverage_20, bool(report.sources))]
    rows += [_source_row(NAMES[one.name], one.at, one, one.coverage, compared=True) for one in report.sources]
    what = "HR: share of next items found. MRR, NDCG: the same, worth more the higher they stand. Coverage: share of"
    return _table(f"{what} the model's items that were recommended to anybody.", head, rows)


def _source_row(
    name: str, at: tuple[MetricsAt, ...], source: SourceFigures | None, coverage: float, compared: bool
) -> str:
    best = at[-1]
    cells = [f"{one.hit_rate.value:.3f}" for one in at[:-1]]
    cells += [_with_interval(one) for one in (best.hit_rate, best.reciprocal_rank, best.ndcg)]
    if compared:
        cells.append("" if source is None else _with_interval(source.hit_rate_less, sign="+"))
    cells.append(f"{coverage:.0%}" if coverage else "unknown")
    return _row(name, cells, "whole" if source is None else "")


def _with_interval(interval: Interval, sign: str = "") -> str:
    low, high = (f"{value:{sign}.3f}" for value in (interval.low, interval.high))
    return f"{interval.value:{sign}.3f}<small>{low} to {high}</small>"


def _kinds(report: EvaluationReport) -> str:
    rows = [
        ("New to the session", report.new),
        ("Seen in it before", report.repeats),
        ("In few sessions of the model", report.rare),
    ]
    lines = [_kind_row(name, metrics, report.overall.count) for name, metrics in rows if metrics.count]
    if report.unknown_targets:
        nothing = NextItemMetrics(report.unknown_targets, 0.0, 0.0, 0.0)
        lines.append(_kind_row("Not in the model, so never found", nothing, report.overall.count))
    head = ["", "Questions", f"HR@{report.k}", f"MRR@{report.k}", f"NDCG@{report.k}"]
    return (
        '<h2>What was asked for</h2>\n<p class="soft">An item that the session had before is easy to guess, one that'
        " hardly anybody had is hard; a figure over all of them hides both.</p>\n"
        + _table("By kind of the item that came next; the last rows overlap with the first two.", head, lines)
    )


def _kind_row(name: str, metrics: NextItemMetrics, of: int) -> str:
    figures = [f"{value:.3f}" for value in (metrics.hit_rate, metrics.reciprocal_rank, metrics.ndcg)]
    return _row(name, [f"{metrics.count:,}<small>{metrics.count / max(of, 1):.0%}</small>", *figures])


def _table(caption: str, head: list[str], rows: Iterable[str]) -> str:
    """`rows` as HTML, `head` and `caption` as text."""
    cells = "".join(f'<th scope="col">{text(one)}</th>' if one else "<td></td>" for one in head)
    label = text(caption.partition(".")[0])
    return (
        f"<figure><figcaption>{text(caption)}</figcaption>\n"
        f'<div class="scroll" role="region" aria-label="{label}" tabindex="0"><table aria-label="{label}">\n'
        f"<thead><tr>{cells}</tr></thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody></table></div></figure>"
    )


def _row(name: str, cells: Iterable[str], kind: str = "") -> str:
    """`cells` as HTML."""
    mark = f' class="{kind}"' if kind else ""
    return f'<tr{mark}><th scope="row">{text(name)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _examples(examples: tuple[Example, ...]) -> str:
    if not examples:
        return ""
    cards = "\n".join(_card(number, example) for number, example in enumerate(examples, start=1))
    told = (
        "Picked so that both kinds are seen: about half of them found early, the rest late or not at all. How often"
        " each happens, the figures above say. Behind each product: the source it is from."
    )
    return f'<h2>Examples</h2>\n<p class="soft">{told}</p>\n<div class="examples">\n{cards}\n</div>'


def _card(number: int, example: Example) -> str:
    found = f"found at {example.rank}" if example.rank else "not among the first 20"
    earlier = f"<li><small>and {example.earlier:,} before</small></li>" if example.earlier else ""
    context = earlier + "".join(f"<li>{_product(one)}</li>" for one in example.context)
    suggested = "".join(_suggestion(one) for one in example.suggested)
    note = f" <small>({text(example.note)})</small>" if example.note else ""
    return (
        f'<article class="example"><h3><span>Session {number}</span>'
        f'<span class="badge{" hit" if example.rank else ""}">{found}</span></h3>\n'
        f'<p class="label">In the session</p><ul>{context}</ul>\n'
        f'<p class="label">Recommended, the best first</p><ol>{suggested}</ol>\n'
        f'<p class="label">Chosen</p><ul><li{" class=chosen" if example.rank else ""}>{_product(example.target)}{note}'
        "</li></ul></article>"
    )


def _suggestion(one: Suggested) -> str:
    why = _SOURCES.get(one.source, one.source.replace("_", " "))
    mark = ' class="chosen"' if one.chosen else ""
    said = " <small>(chosen)</small>" if one.chosen else ""
    return f"<li{mark}>{_product(one.product)}{said} <small>· {text(why)}</small></li>"


def _product(product: Product) -> str:
    if not product.title:
        return _foreign(product.item_id)
    return f"{_foreign(product.title)} <small>{_foreign(product.item_id)}</small>"


def _about(report: EvaluationReport) -> str:
    rows = "\n".join(f"<dt>{text(label)}</dt><dd>{text(said)}</dd>" for label, said in facts(report))
    return f"<h2>How this was measured</h2>\n<p>{text(measured_text(report))}</p>\n<dl>\n{rows}\n</dl>"
