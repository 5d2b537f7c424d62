"""A server as a process of its own, as far as no other test has one."""

from __future__ import annotations

from pathlib import Path

import pytest

from recserv.app import server_process
from recserv.app.server_process import ServerNotStarted, ServerProcess
from tests.patience import HANG_GUARD_S


def test_it_is_given_as_long_as_the_tests_wait_for_anything() -> None:
    assert server_process.START_TIMEOUT_S >= HANG_GUARD_S
    assert server_process.STOP_TIMEOUT_S >= HANG_GUARD_S


def test_a_server_that_does_not_start_is_an_error_with_its_output(tmp_path: Path) -> None:
    with (
        pytest.raises(ServerNotStarted, match="no-model"),
        ServerProcess.started(tmp_path / "no-model", tmp_path / "state.db"),
    ):
        raise AssertionError("it started")
