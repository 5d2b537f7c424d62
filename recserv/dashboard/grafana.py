"""The dashboard as Grafana reads it (schemaVersion 39: Grafana 10.4 and newer)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from recserv.dashboard import inside_rows, serving_rows
from recserv.dashboard.panel import Panel

_COLUMNS = 24
_HEIGHT = {"stat": 4, "timeseries": 8, "table": 6}
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def grafana_json() -> str:
    dashboard = {
        "uid": "recserv",
        "title": "recserv",
        "description": "Written by `recserv dashboard`. Import it and choose the Prometheus that scrapes the servers.",
        "tags": ["recserv"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [],
        "templating": {
            "list": [
                _datasource(),
                _values("instance", "recserv_build_info"),
                _values("tenant", "recserv_requests_total"),
            ]
        },
        "panels": list(_laid_out()),
    }
    return json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"


def _datasource() -> dict[str, Any]:
    return {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus", "hide": 0}


def _values(label: str, metric: str) -> dict[str, Any]:
    """A variable of the values that a label has; all of them at first."""
    query = f"label_values({metric}, {label})"
    return {
        "type": "query",
        "name": label,
        "label": label.capitalize(),
        "datasource": _SOURCE,
        "definition": query,
        "query": {"query": query, "refId": "values"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def _laid_out() -> Iterator[dict[str, Any]]:
    """From left to right and from top to bottom, every row below its title."""
    number, top = 0, 0
    for row in (*serving_rows.ROWS, *inside_rows.ROWS):
        number += 1
        yield {"id": number, "type": "row", "title": row.title, "collapsed": False, "panels": []} | _place(
            0, top, _COLUMNS, 1
        )
        left, top = 0, top + 1
        height = 0
        for panel in row.panels:
            if left + panel.width > _COLUMNS:
                left, top = 0, top + height
            number, height = number + 1, _HEIGHT[panel.kind]
            yield _panel(number, panel) | _place(left, top, panel.width, height)
            left += panel.width
        top += height


def _place(left: int, top: int, width: int, height: int) -> dict[str, Any]:
    return {"gridPos": {"x": left, "y": top, "w": width, "h": height}}


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.red_from is not None:
        steps.append({"color": "red", "value": panel.red_from})
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "min": 0,
        "thresholds": {"mode": "absolute", "steps": steps},
        "color": {"mode": "thresholds" if panel.kind == "stat" else "palette-classic"},
    }
    if panel.kind == "timeseries":
        defaults["custom"] = _drawn(panel)
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": _SOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": _SOURCE,
                "editorMode": "code",
                "expr": query.expr,
                "legendFormat": query.legend,
                "range": panel.kind != "table",
                "instant": panel.kind == "table",
                "format": "table" if panel.kind == "table" else "time_series",
            }
            for place, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _OPTIONS[panel.kind],
    }


def _drawn(panel: Panel) -> dict[str, Any]:
    return {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 25 if panel.stacked else 0,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "off" if panel.red_from is None else "line"},
    }


_OPTIONS: dict[str, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "table", "placement": "right", "calcs": ["lastNotNull", "max"], "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "area",
        "textMode": "auto",
    },
    "table": {"showHeader": True},
}
