from __future__ import annotations

import io
import json
import logging
import threading

from recserv.logs import Logs, UserTag
from tests.patience import HANG_GUARD_S


def written(level: str, *records: tuple[int, str, dict[str, object]]) -> list[dict[str, object]]:
    stream = io.StringIO()
    logs = Logs(level, stream)
    for number, message, fields in records:
        logging.getLogger("recserv.test").log(number, message, extra={"fields": fields})
    logs.close()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_record_is_one_json_object_with_its_fields() -> None:
    [line] = written("info", (logging.INFO, 'with "quotes"\nand lines', {"request_id": "r", "count": 3}))
    assert line["message"] == 'with "quotes"\nand lines'
    assert (line["level"], line["logger"], line["request_id"], line["count"]) == ("info", "recserv.test", "r", 3)
    assert str(line["time"]).endswith("Z")


def test_below_the_level_nothing_is_written() -> None:
    assert [line["message"] for line in written("warning", (20, "low", {}), (30, "high", {}))] == ["high"]


def test_a_traceback_is_part_of_its_line() -> None:
    stream = io.StringIO()
    logs = Logs("info", stream)
    try:
        raise ZeroDivisionError("boom")
    except ZeroDivisionError:
        logging.getLogger("recserv.test").exception("failed")
    logs.close()
    [line] = [json.loads(text) for text in stream.getvalue().splitlines()]
    assert "ZeroDivisionError: boom" in line["exception"]


def test_a_writer_that_hangs_costs_lines_and_no_time() -> None:
    gate = threading.Event()

    class Stuck(io.StringIO):
        def write(self, text: str) -> int:
            gate.wait(HANG_GUARD_S)
            return super().write(text)

    logs = Logs("info", Stuck())
    logger = logging.getLogger("recserv.test")
    for _ in range(10_100):
        logger.info("line")
    assert logs.dropped() >= 90
    gate.set()
    logs.close()


def test_closing_gives_the_root_logger_back() -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    Logs("debug", io.StringIO()).close()
    assert (list(root.handlers), root.level) == before


def test_a_user_has_the_same_tag_under_the_same_salt_only() -> None:
    tag = UserTag("salt")
    assert tag("user-1") == UserTag("salt")("user-1") != UserTag("pepper")("user-1")
    assert tag("user-1") != tag("user-2")
    assert UserTag()("user-1") != UserTag()("user-1")
    assert (len(tag("user-1")), tag("")) == (16, "")
