"""The dashboard and the alerts ask for what a server exposes, and for all of it."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from recserv import cli
from recserv.commands import dashboard
from recserv.dashboard import FILES, LEFT_OUT
from recserv.dashboard.rules import ALERTS, RECORDED, SLOW_S, STREAMS, Recorded
from recserv.dashboard.yaml_text import yaml_text
from recserv.gateway.answers import HTTP_STATUS
from recserv.metrics import _LATENCY_S
from recserv.types import SERVER_ERRORS, DegradedReason
from recserv.v1.recommendation_service_pb2 import DESCRIPTOR
from tests.dashboard.exposed import Exposed, exposed_by_a_server
from tests.dashboard.promql import grouped_by, named_labels, parsed, selectors
from tests.project_files import ROOT

GRAFANA: dict[str, Any] = json.loads(FILES["grafana"][1]())
PANELS = [panel for panel in GRAFANA["panels"] if panel["type"] != "row"]
TARGETS = [(panel["title"], one["expr"], one["legendFormat"]) for panel in PANELS for one in panel["targets"]]
RULES = [*((one.name, one.expr) for one in RECORDED), *((one.name, one.expr) for one in ALERTS)]
EXPRESSIONS = [*((title, expr) for title, expr, _ in TARGETS), *RULES]


@pytest.fixture(scope="module")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Exposed, Exposed]:
    return asyncio.run(exposed_by_a_server(tiny_model, tmp_path_factory.mktemp("state") / "state.db"))


@pytest.fixture(scope="module")
def samples(server: tuple[Exposed, Exposed]) -> Exposed:
    """What may be asked for: the server's own, and what the rules record of it."""
    return server[0] | {one.name: frozenset(grouped_by(_outermost(one))) for one in RECORDED}


def _outermost(rule: Recorded) -> str:
    """Its first aggregation, which says the labels of its result."""
    return rule.expr.split("\n")[0].removeprefix("1 - ")


@pytest.mark.parametrize("name", FILES)
def test_what_lies_in_deploy_is_what_the_command_writes(name: str) -> None:
    path, text_of = FILES[name]
    assert (ROOT / "deploy" / path).read_text() == text_of(), "run `recserv dashboard --out deploy`"


def test_the_command_prints_one_and_writes_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["dashboard", "--print", "alerts"]) == 0
    assert capsys.readouterr().out == FILES["alerts"][1]()
    assert cli.main(["dashboard", "--out", str(tmp_path / "new")]) == 0
    written = capsys.readouterr().out.splitlines()
    assert written == [str(tmp_path / "new" / path) for path, _ in FILES.values()]
    assert [Path(path).read_text() for path in written] == [text_of() for _, text_of in FILES.values()]
    assert tuple(FILES) == dashboard._NAMES


def test_where_it_cannot_write_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert cli.main(["dashboard", "--out", str(tmp_path / "file")]) == 2
    assert "see --out" in capsys.readouterr().err


@pytest.mark.parametrize(("title", "expr"), EXPRESSIONS)
def test_an_expression_asks_for_metrics_and_labels_that_there_are(title: str, expr: str, samples: Exposed) -> None:
    asked = selectors(expr)
    assert asked, title
    assert [(name, labels) for name, labels in asked if name not in samples or not labels.keys() <= samples[name]] == []
    known = frozenset().union(*(samples[name] for name, _ in asked))
    assert grouped_by(expr) - known == set()


@pytest.mark.parametrize(("title", "expr", "legend"), TARGETS)
def test_a_legend_names_labels_of_its_result(title: str, expr: str, legend: str, samples: Exposed) -> None:
    assert named_labels(legend) - _labels_left(expr, samples) == set(), title


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_a_summary_names_labels_of_its_result(alert: Any, samples: Exposed) -> None:
    assert named_labels(alert.summary) - _labels_left(alert.expr, samples) == set()


def _labels_left(expr: str, samples: Exposed) -> set[str]:
    grouped = grouped_by(expr)
    return grouped or set().union(*(samples[name] for name, _ in selectors(expr)))


def test_no_metric_of_the_server_is_left_out_but_those_that_say_why(server: tuple[Exposed, Exposed]) -> None:
    shown = {name for _, expr, _ in TARGETS for name, _ in selectors(expr)}
    missing = {
        name
        for name in server[1]
        if shown.isdisjoint({name, f"{name}_total", f"{name}_bucket", f"{name}_sum", f"{name}_count"})
    }
    assert missing == set(LEFT_OUT), "put it on a panel, or say in LEFT_OUT why not"
    assert all(LEFT_OUT.values())


def test_what_is_asked_for_by_value_is_a_value_that_there_is() -> None:
    values: dict[str, set[str]] = {}
    for _, expr in EXPRESSIONS:
        for _, labels in selectors(expr):
            for name, value in labels.items():
                values.setdefault(name, set()).update(value.split("|"))
    assert values["status"] == set(SERVER_ERRORS) <= set(HTTP_STATUS)
    assert values["reason"] <= {reason.name.lower() for reason in DegradedReason}
    assert values["rpc"] == {"Recommend", *STREAMS.split("|")}
    rpcs = DESCRIPTOR.services_by_name["RecommendationService"].methods
    streams = {rpc.name for rpc in rpcs if rpc.client_streaming or rpc.server_streaming}
    assert {rpc.name for rpc in rpcs if re.fullmatch(STREAMS, rpc.name)} == streams
    assert values["stage"] == {"state"}
    assert values["le"] == {str(SLOW_S)} <= {str(bucket) for bucket in _LATENCY_S}


def test_the_dashboard_stands_by_itself() -> None:
    """It needs none of the rules, no other host, and shows the data source, the servers and the tenants to choose."""
    text = FILES["grafana"][1]()
    assert "http" not in text
    assert [one.name for one in RECORDED if one.name in text] == []
    assert [one["name"] for one in GRAFANA["templating"]["list"]] == ["datasource", "instance", "tenant"]
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}
    for variable in GRAFANA["templating"]["list"][1:]:
        assert variable["query"]["query"].startswith("label_values(recserv_")


def test_panels_have_a_unit_and_a_text_and_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in GRAFANA["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert cells.isdisjoint(taken), panel["title"]
        assert all(x < 24 for x, _ in cells)
        taken |= cells
    assert [one["title"] for one in PANELS if not (one["description"] and one["fieldConfig"]["defaults"]["unit"])] == []
    assert len({panel["id"] for panel in GRAFANA["panels"]}) == len(GRAFANA["panels"])
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)


def test_every_alert_says_what_is_wrong_what_to_do_and_how_urgent_it_is() -> None:
    for alert in ALERTS:
        assert alert.severity in ("page", "ticket")
        assert alert.summary
        assert alert.action.endswith((".", ")"))
        assert parsed(alert.expr)
    assert len({alert.name for alert in ALERTS}) == len(ALERTS)
    severities = {alert.name: alert.severity for alert in ALERTS}
    assert severities["RecservNobodyServes"] == severities["RecservStoreUnavailable"] == "page"
    assert severities["RecservLlmBudgetSpent"] == severities["RecservLlmFailing"] == "ticket"


def test_the_rules_file_holds_every_rule() -> None:
    groups = yaml.safe_load(FILES["alerts"][1]())["groups"]
    found = [(rule.get("record") or rule["alert"], rule["expr"]) for group in groups for rule in group["rules"]]
    assert found == RULES


def test_the_scrape_configuration_loads_the_rules_and_has_the_job_that_they_ask_for() -> None:
    config = yaml.safe_load(FILES["prometheus"][1]())
    [job] = config["scrape_configs"]
    assert f'up{{job="{job["job_name"]}"}}' in ALERTS[0].expr
    path = Path(FILES["prometheus"][0]).parent / config["rule_files"][0]
    assert str(path) == FILES["alerts"][0]


ASCII = st.characters(max_codepoint=126)
WORDS = st.text(ASCII, max_size=12) | st.sampled_from(
    ["yes", "null", "0x1", "1e3", "5m", "a: b", "# a", "-", 'x{y="z"}\n  + 1', " "]
)
DOCUMENTS = st.dictionaries(
    st.text(ASCII, min_size=1, max_size=5),
    st.recursive(
        WORDS | st.integers(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3)
    ),
    max_size=4,
)


@settings(max_examples=40)
@given(DOCUMENTS)
def test_what_is_written_as_yaml_is_read_back_as_it_was(document: dict[str, Any]) -> None:
    assert (yaml.safe_load(yaml_text(document)) or {}) == document
