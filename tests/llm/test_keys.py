from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from recserv.llm.keys import ASIDE_S, LOOK_AGAIN_S, KeyRing


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_keys_come_from_the_environment_and_from_files_in_order(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# first\n\n two \nthree\none\n")
    ring = KeyRing(("env:KEY", f"file:{file}"), {"KEY": "one"})
    assert ring.current() == "one"
    assert len(ring) == 3
    for expected in ("two", "three", ""):
        ring.refused(ring.current())
        assert ring.current() == expected


def test_without_sources_no_key_is_wanted() -> None:
    ring = KeyRing(())
    assert (ring.wanted, ring.current(), len(ring)) == (False, "", 0)


def test_a_file_that_changed_is_read_again_before_anything_is_refused(tmp_path: Path) -> None:
    file, clock = tmp_path / "keys", Clock()
    file.write_text("old\n")
    ring = KeyRing((f"file:{file}",), clock=clock)
    file.write_text("new-key\n")
    assert ring.current() == "old", "it does not look at the file for every call"
    clock.now_s += LOOK_AGAIN_S
    assert ring.current() == "new-key"


def test_a_refusal_reads_the_file_at_once(tmp_path: Path) -> None:
    file, clock = tmp_path / "keys", Clock()
    file.write_text("old\n")
    ring = KeyRing((f"file:{file}",), clock=clock)
    file.write_text("new\n")
    ring.refused("old")
    assert ring.current() == "new"


def test_a_refused_key_rests_until_its_file_changes_or_a_minute_is_over(tmp_path: Path) -> None:
    file, clock = tmp_path / "keys", Clock()
    file.write_text("one\n")
    ring = KeyRing((f"file:{file}",), clock=clock)
    ring.refused("one")
    assert ring.current() == ""
    clock.now_s += ASIDE_S
    assert ring.current() == "one"
    ring.refused("one")
    assert ring.current() == ""
    file.write_text("one\n# put back\n")
    clock.now_s += LOOK_AGAIN_S
    assert ring.current() == "one"


def test_a_file_that_vanishes_leaves_the_last_keys_and_no_key_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "keys"
    file.write_text("secret-one\nsecret-two\n")
    ring = KeyRing((f"file:{file}",))
    os.unlink(file)
    with caplog.at_level(logging.INFO):
        ring.refused("secret-one")
    assert ring.current() == "secret-two"
    assert caplog.records
    assert "secret" not in " ".join(str(vars(record)) for record in caplog.records)


@pytest.mark.parametrize("unclean", ["\ufeffnew", "n\u00e9w", "two words", "ta\tb"])
def test_text_that_cannot_be_a_header_value_is_not_used_as_a_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, unclean: str
) -> None:
    file = tmp_path / "keys"
    file.write_text("old\n", encoding="utf-8")
    ring = KeyRing((f"file:{file}", "env:KEY"), {"KEY": unclean})
    assert (ring.current(), len(ring)) == ("old", 1)
    file.write_text(f"{unclean}\nnew\n", encoding="utf-8")
    with caplog.at_level(logging.INFO):
        ring.refused("old")
    assert (ring.current(), len(ring)) == ("new", 1)
    assert any("cannot be a header value" in record.message for record in caplog.records)
    assert unclean not in " ".join(str(vars(record)) for record in caplog.records)
