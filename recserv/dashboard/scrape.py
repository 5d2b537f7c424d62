"""A scrape configuration to start from: the server's metrics, and the rules beside it."""

from __future__ import annotations

from collections.abc import Mapping

from recserv.dashboard.rules import JOB
from recserv.dashboard.yaml_text import Value, yaml_text

_HEAD = """\
# Prometheus for recserv: a start, to be merged into a configuration of your own. Written by `recserv dashboard`.
# A server listens for scrapes on 127.0.0.1:9464 unless told otherwise (recserv serve --metrics-listen 0.0.0.0:9464).
# One address for each `recserv serve`, however many workers it has: its page has all of them.
# The alerts ask for the job by the name that it has here.
"""


def scrape_yaml() -> str:
    job: Mapping[str, Value] = {"job_name": JOB, "static_configs": [{"targets": ["127.0.0.1:9464"]}]}
    return _HEAD + yaml_text(
        {
            "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
            "rule_files": ["alerts.yml"],
            "scrape_configs": [job],
        }
    )
