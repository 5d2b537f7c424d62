"""Servers with a language model, providers and Redis, each a process of its own."""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from recserv.app.server_process import ServerProcess
from tests.patience import HANG_GUARD_S
from tests.project_files import ROOT

CONFIG = """
[llm]
base_url = "{base_url}"
attempt_timeout_s = {attempt_timeout_s}
job_deadline_s = {job_deadline_s}
budget_per_day = 0.0
budget_per_minute = 0.0
{more}
[llm.models.small]
input_per_million = 1.0
output_per_million = 2.0
response_format = "{response_format}"
"""


@contextlib.contextmanager
def provider_process(*options: str) -> Iterator[str]:
    """A plain provider; its base URL."""
    command = [sys.executable, "-m", "tests.llm.plain_provider", *options]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        # Its one line comes whole.
        assert select.select([process.stdout], [], [], HANG_GUARD_S)[0], "the provider says nothing"
        url = process.stdout.readline().strip()
        assert url, "the provider does not start"
        yield url
    finally:
        process.kill()
        process.wait(HANG_GUARD_S)
        if process.stdout is not None:
            process.stdout.close()


@contextlib.contextmanager
def llm_server(
    model: Path,
    folder: Path,
    base_url: str,
    *,
    state: str = "",
    attempt_timeout_s: float = 5.0,
    job_deadline_s: float = 20.0,
    more: str = "",
    response_format: str = "json_object",
    flags: Sequence[str] = (),
) -> Iterator[ServerProcess]:
    """`recserv serve` with that provider. `state` empty: embedded, in `folder`. `flags`: of `serve`, besides."""
    folder.mkdir(exist_ok=True)
    config = folder / "recserv.toml"
    config.write_text(
        CONFIG.format(
            base_url=base_url,
            attempt_timeout_s=attempt_timeout_s,
            job_deadline_s=job_deadline_s,
            more=more,
            response_format=response_format,
        )
    )
    options = ["--config", str(config), "--log-level", "warning", *(["--state", state] if state else []), *flags]
    with ServerProcess.started(model, folder / "state.sqlite", options) as server:
        yield server
