"""Files as shops have them, and a build of them as a person runs it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from recserv import cli
from recserv.model.snapshot import ModelSnapshot, load_snapshot

QUICK = ("--dimensions", "4", "--epochs", "0", "--rank-examples", "0")
PAIRS = [("s1", "pot"), ("s1", "lid"), ("s2", "lid"), ("s2", "pot"), ("s3", "pot"), ("s3", "rack")]


def events(separator: str = ",") -> str:
    rows = [("event_type", "session_id", "item_id"), *(("view", *pair) for pair in PAIRS)]
    return "".join(separator.join(row) + "\n" for row in rows)


@dataclass
class Built:
    """`report` is what `--report` wrote; None if nothing was built."""

    code: int
    out: str
    err: str
    folder: Path
    report: dict[str, Any] | None

    @property
    def model(self) -> ModelSnapshot:
        return load_snapshot(self.folder / "model")

    def item(self, item_id: str) -> Any:
        item_row = self.model.items.row(item_id)
        assert item_row >= 0, f"no {item_id}"
        return self.model.items.get(item_row)

    @property
    def data(self) -> dict[str, Any]:
        assert self.report is not None, self.err
        return self.report

    def taken(self) -> dict[str, tuple[str, int]]:
        return {one["name"]: (one["taken_as"], one["count"]) for one in self.data["event_names"]}


class Builder:
    """Writes files into a folder of its own and runs `recserv build` on them."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]):
        self.folder, self._capsys = folder, capsys

    def write(self, name: str, content: str | bytes) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def build(self, events: str | bytes, *options: str, name: str = "e.csv", **catalog: str | bytes) -> Built:
        """`catalog`: one file by name with _ for its dot, such as `c_tsv="..."`."""
        arguments = ["--events", self.write(name, events)]
        for file, content in catalog.items():
            arguments += ["--catalog", self.write(file.replace("_", "."), content)]
        return self.run(*arguments, *options)

    def run(self, *arguments: str) -> Built:
        report = self.folder / "report.json"
        report.unlink(missing_ok=True)
        out = str(self.folder / "model")
        code = cli.main(["build", *arguments, "--out", out, "--report", str(report), *QUICK])
        told = self._capsys.readouterr()
        found = json.loads(report.read_bytes()) if report.exists() else None
        return Built(code, told.out, told.err, self.folder, found)
