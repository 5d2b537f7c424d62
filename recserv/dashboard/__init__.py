"""What watches a server: a Grafana dashboard, Prometheus rules and a scrape configuration, described here once.

    serving_rows.py, inside_rows.py -> grafana.py   deploy/grafana/recserv.json
    rules.py -> yaml_text.py                        deploy/prometheus/alerts.yml
    scrape.py -> yaml_text.py                       deploy/prometheus/prometheus.yml

`deploy/` is what `recserv dashboard --out deploy` writes; a test compares. Metrics that no panel shows are in LEFT_OUT.
"""

from __future__ import annotations

from recserv.dashboard.grafana import grafana_json
from recserv.dashboard.rules import alerts_yaml
from recserv.dashboard.scrape import scrape_yaml

FILES = {
    "grafana": ("grafana/recserv.json", grafana_json),
    "alerts": ("prometheus/alerts.yml", alerts_yaml),
    "prometheus": ("prometheus/prometheus.yml", scrape_yaml),
}
"""Of each document: where it lies below `deploy/`, and what makes its text."""

LEFT_OUT = {
    "process_virtual_memory_bytes": "the model is mapped: addresses say nothing of what is used",
}
"""Metrics of a server that no panel shows, and why."""
