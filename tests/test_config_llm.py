"""The table [llm]: what it means, and every problem of it at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from recserv.cli import main
from recserv.config import Settings, load_settings
from recserv.config_llm import LlmSettings, ModelSettings
from recserv.errors import ConfigError
from tests.project_files import ROOT

MINIMAL = """
model = "m"
[llm]
base_url = "http://127.0.0.1:8080/v1"
[llm.models.small]
input_per_million = 0.1
output_per_million = 0.2
"""


def load(tmp_path: Path, text: str, **environ: str) -> Settings:
    path = tmp_path / "recserv.toml"
    path.write_text(text)
    return load_settings({"model": "m"}, environ, str(path))


def problems(tmp_path: Path, text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, **environ)
    return list(caught.value.problems)


def test_without_the_table_there_is_no_language_model(tmp_path: Path) -> None:
    assert load(tmp_path, "workers = 1").llm is None


def test_a_base_url_and_a_price_are_all_it_takes(tmp_path: Path) -> None:
    small = ModelSettings(input_per_million=0.1, output_per_million=0.2)
    assert load(tmp_path, MINIMAL).llm == LlmSettings(base_url="http://127.0.0.1:8080/v1", models={"small": small})


def readme_example() -> str:
    blocks = re.findall(r"^```toml\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.DOTALL | re.MULTILINE)
    [block] = [block for block in blocks if "[llm]" in block]
    return str(block)


def test_the_readmes_example_is_valid_and_has_the_gateways_prices(tmp_path: Path) -> None:
    llm = load(tmp_path, readme_example(), LLM_API_KEY="secret").llm
    assert llm is not None
    assert {name: (model.input_per_million, model.output_per_million) for name, model in llm.models.items()} == {
        "deepseek-v3.2": (0.42, 0.42),
        "gemini-2.5-flash": (2.50, 2.50),
        "gpt-4.1": (8.00, 8.00),
        "claude-sonnet-4.5": (15.00, 15.00),
    }
    assert llm.tiers["simple"][0] == "deepseek-v3.2"
    assert set(llm.tiers) == {"simple", "detailed", "complex"}
    assert (llm.budget_per_day, llm.in_flight_max) == (20.0, 50)


def test_every_problem_is_told_at_once_with_its_path(tmp_path: Path) -> None:
    text = """
workers = "three"
[llm]
base_ulr = "x"
base_url = "ftp://host"
api_keys = ["env:NO_KEY", "file:/no/such/file", "sk-12345"]
budget_per_day = -1
in_flight_max = 0
job_deadline_s = nan
stream = "perhaps"
tiers = {simple = ["unknown"], huge = ["small"]}
placement_priority = {cart = "urgent"}
[llm.models.small]
input_per_million = "cheap"
outputt_per_million = 1.0
response_format = "xml"
"""
    found = problems(tmp_path, text)
    wanted = [
        "workers",
        "llm: unknown key 'base_ulr'; did you mean 'base_url'?",
        "llm.budget_per_day",
        "llm.in_flight_max",
        "llm.job_deadline_s",
        "llm.stream",
        "llm.placement_priority.cart",
        "llm.models.small.input_per_million",
        "llm.models.small: unknown key 'outputt_per_million'",
        "llm.models.small.output_per_million: missing",
        "llm.models.small.response_format",
        "llm.base_url",
        "llm.tiers: 'huge'",
        "'unknown' is not in",
        "'NO_KEY'",
        "'/no/such/file'",
        "a key is not written into the file",
    ]
    assert [text for text in wanted if not any(text in problem for problem in found)] == []
    assert not any("sk-12345" in problem for problem in found)
    assert len(found) == len(wanted), found


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ('base_url = "http://user:pw@host/v1"', "user"),
        ('base_url = "https://host/v1?key=1"', "query"),
        ('base_url = "env:NOT_SET"', "NOT_SET"),
        ("attempt_timeout_s = 60.0", "attempt_timeout_s"),
        ("budget_per_day = 0.5", "budget_per_minute"),
        ("attempts_max = 3", "attempts_max"),
    ],
)
def test_one_problem_is_one_line(tmp_path: Path, change: str, word: str) -> None:
    lines = MINIMAL.replace('base_url = "http://127.0.0.1:8080/v1"\n', "") if "base_url" in change else MINIMAL
    [problem] = problems(tmp_path, lines.replace("[llm]\n", f"[llm]\n{change}\n"))
    assert word in problem


def test_an_llm_table_without_models_is_refused(tmp_path: Path) -> None:
    [problem] = problems(tmp_path, '[llm]\nbase_url = "http://h/v1"\nmodels = {}\n')
    assert "names no model" in problem


@pytest.mark.parametrize("content", ["", "# only a comment\n\n", "two words\n", "fine\nn\u00e9w\n", "\ufeffkey\n"])
def test_a_key_file_must_hold_clean_keys(tmp_path: Path, content: str) -> None:
    file = tmp_path / "keys"
    file.write_text(content, encoding="utf-8")
    [problem] = problems(tmp_path, MINIMAL.replace("[llm]\n", f'[llm]\napi_keys = ["file:{file}"]\n'))
    assert str(file) in problem


@pytest.mark.parametrize("key", ["two words", "n\u00e9w", "\ufeffkey", "  "])
def test_a_key_in_the_environment_must_be_clean(tmp_path: Path, key: str) -> None:
    text = MINIMAL.replace("[llm]\n", '[llm]\napi_keys = ["env:THE_KEY"]\n')
    [problem] = problems(tmp_path, text, THE_KEY=key)
    assert "'THE_KEY'" in problem
    assert "n\u00e9w" not in problem


def test_the_url_can_come_from_the_environment(tmp_path: Path) -> None:
    text = MINIMAL.replace('"http://127.0.0.1:8080/v1"', '"env:GATEWAY"')
    llm = load(tmp_path, text, GATEWAY="https://gateway.example/v1").llm
    assert llm is not None
    assert llm.base_url == "https://gateway.example/v1"


def test_a_missing_secret_ends_the_start_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_KEY", raising=False)
    path = tmp_path / "recserv.toml"
    path.write_text(MINIMAL.replace("[llm]\n", '[llm]\napi_keys = ["env:NO_KEY"]\n'))
    options: list[Any] = ["serve", "--model", str(tmp_path), "--config", str(path)]
    assert main(options) == 2
    assert "NO_KEY" in capsys.readouterr().err
