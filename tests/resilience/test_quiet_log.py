from __future__ import annotations

import logging

import pytest

from recserv.resilience.quiet_log import KEYS_MAX, QuietLog


def test_a_line_that_repeats_is_logged_once_an_interval_with_the_number_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    quiet = QuietLog(logging.getLogger("quiet"), interval_s=5.0, clock=lambda: now[0])
    for second in range(11):
        now[0] = float(second)
        for _ in range(100):
            quiet.log(logging.WARNING, "store", "down", fields={"rpc": "Recommend"})
    quiet.log(logging.WARNING, "index", "down as well")
    assert [record.getMessage() for record in caplog.records] == ["down"] * 3 + ["down as well"]
    assert [record.fields.get("repeated") for record in caplog.records] == [None, 499, 499, None]


def test_the_quiet_log_remembers_a_bounded_number_of_keys() -> None:
    quiet = QuietLog(logging.getLogger("quiet"))
    for key in range(3 * KEYS_MAX):
        quiet.log(logging.WARNING, str(key), "text")
    assert len(quiet._seen) <= KEYS_MAX
