"""Dates whose first number may be the day or the month: by a format that was told, or by what the column shows."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recserv import cli
from recserv.errors import UsageError
from recserv.training.mapping_tables import ReadOptions, check_read
from recserv.training.written_dates import read_format
from tests.training.files.support import Builder, Built

HEADER = "event_type,session_id,item_id,event_time\n"
DAY_MS = 86_400_000


def ms(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp() * 1000)


def log(*times: str) -> str:
    """Each time in a session of its own, all of one item."""
    return HEADER + "".join(f'view,s{n},pot,"{time}"\n' for n, time in enumerate(times))


def span(built: Built) -> tuple[int, int]:
    assert built.code == 0, built.err
    training = built.model.manifest.training
    assert training.first_event_ms is not None
    assert training.last_event_ms is not None
    return training.first_event_ms, training.last_event_ms


@pytest.mark.parametrize(
    ("times", "first", "last"),
    [
        (("01.05.2024", "31.05.2024"), ms(2024, 5, 1), ms(2024, 5, 31)),
        (("01/05/2024", "05/31/2024"), ms(2024, 1, 5), ms(2024, 5, 31)),
        (("1/5/2024 14:03", "13/5/2024 7:01"), ms(2024, 5, 1, 14, 3), ms(2024, 5, 13, 7, 1)),
        (("1-5-2024, 2:03 PM", "13-5-2024, 12:00 am"), ms(2024, 5, 1, 14, 3), ms(2024, 5, 13)),
        (("01.05.2024 14:03:07.5", "13.05.2024 00:00:00 +02:00"), ms(2024, 5, 1, 14, 3, 7) + 500, ms(2024, 5, 12, 22)),
        (("2024/05/01", "2024/5/2 3:04"), ms(2024, 5, 1), ms(2024, 5, 2, 3, 4)),
        (("05/05/2024", "06/06/2024"), ms(2024, 5, 5), ms(2024, 6, 6)),
        (("2024-05-01T00:00:00Z", "13/05/2024"), ms(2024, 5, 1), ms(2024, 5, 13)),
    ],
)
def test_a_day_above_twelve_decides_for_the_column(
    shop: Builder, times: tuple[str, ...], first: int, last: int
) -> None:
    assert span(shop.build(log(*times))) == (first, last)


def test_what_no_date_of_the_column_decides_is_refused_with_both_readings(shop: Builder) -> None:
    built = shop.build(log("2/2/2024 14:03", "1/5/2024 14:03"), "--skip-bad-rows")
    assert built.code == 2
    assert "row 2, column event_time: '1/5/2024 14:03' may be 1 May 2024 or 5 January 2024" in built.err
    assert "--time-format '%d/%m/%Y %H:%M' or '%m/%d/%Y %H:%M' says it" in built.err
    assert span(shop.build(log("1/5/2024 14:03"), "--time-format", "%m/%d/%Y %H:%M"))[0] == ms(2024, 1, 5, 14, 3)
    assert span(shop.build(log("1/5/2024 14:03"), "--time-format", "%d/%m/%Y %H:%M"))[0] == ms(2024, 5, 1, 14, 3)


def test_a_column_of_both_orders_is_refused_with_a_date_of_each(shop: Builder) -> None:
    built = shop.build(log("1/5/2024", "31/5/2024", "5/31/2024"), "--skip-bad-rows")
    assert built.code == 2
    assert "the day comes first in '31/5/2024' and the month in '5/31/2024', row 3" in built.err


def test_the_date_that_decides_may_be_in_another_file_or_far_behind(
    shop: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recserv.training.readers._CSV_BLOCK_BYTES", 4096)
    shop.write("parts/a.csv", log(*["01/05/2024"] * 1000))
    shop.write("parts/b.csv", log(*["02/05/2024"] * 1000, "13/05/2024"))
    assert span(shop.run("--events", str(shop.folder / "parts"))) == (ms(2024, 5, 1), ms(2024, 5, 13))


def test_dates_with_dots_do_not_settle_the_order_of_dates_with_slashes(shop: Builder) -> None:
    assert span(shop.build(log("13.05.2024", "05/31/2024"))) == (ms(2024, 5, 13), ms(2024, 5, 31))
    refused = shop.build(log("13.05.2024", "05/06/2024"))
    assert (refused.code, "'05/06/2024' may be" in refused.err) == (2, True)


@pytest.mark.parametrize(
    "value", ["32.05.2024", "31.02.2024", "13.13.2024", "13.05/2024", "13.05.2024 25:00", "13.05.24"]
)
def test_an_impossible_date_is_a_bad_row(shop: Builder, value: str) -> None:
    built = shop.build(log("13.05.2024", value))
    assert built.code == 2
    assert (
        "row 2, column event_time: neither ISO 8601 nor an epoch time; --time-format can name its format" in built.err
    )
    assert value in built.err
    assert shop.build(log("13.05.2024", value), "--skip-bad-rows").data["rows_bad"] == 1


def test_dates_of_a_parquet_file_are_read_alike(shop: Builder) -> None:
    rows = {"event_type": ["view"] * 2, "session_id": ["a", "b"], "item_id": ["x", "y"]}
    pq.write_table(pa.table({**rows, "event_time": ["01.05.2024", "13.05.2024"]}), shop.folder / "e.parquet")
    assert span(shop.run("--events", str(shop.folder / "e.parquet"))) == (ms(2024, 5, 1), ms(2024, 5, 13))
    pq.write_table(pa.table({**rows, "event_time": [20240501, 20240513]}), shop.folder / "e.parquet")
    told = shop.run("--events", str(shop.folder / "e.parquet"), "--time-format", "%Y%d%m")
    assert told.code == 2
    assert "row 2, column event_time: not written as '%Y%d%m'" in told.err


@pytest.mark.parametrize(
    ("time_format", "value", "expected"),
    [
        ("%d.%m.%y", "01.05.24", ms(2024, 5, 1)),
        ("%d %b %Y", "1 May 2024", ms(2024, 5, 1)),
        ("%b %d, %Y %I:%M %p", "September 3, 2023 12:30 p.m.", ms(2023, 9, 3, 12, 30)),
        ("%d/%b/%Y:%T %z", "01/May/2024:14:03:07 +0200", ms(2024, 5, 1, 12, 3, 7)),
        ("%Y%m%d%H%M%S", "20240501140307", ms(2024, 5, 1, 14, 3, 7)),
        ("%F %T.%f", "2024-05-01 14:03:07.25", ms(2024, 5, 1, 14, 3, 7) + 250),
        ("week of %d.%m.%Y (100%%)", "week  of 01.05.2024 (100%)", None),
    ],
)
def test_a_time_format_reads_the_times_that_match_it(
    shop: Builder, time_format: str, value: str, expected: int | None
) -> None:
    built = shop.build(log(value), "--time-format", time_format)
    if expected is None:
        assert span(built)[0] == ms(2024, 5, 1)
    else:
        assert span(built)[0] == expected
        refused = shop.build(log(f"{value}x"), "--time-format", time_format)
        assert f"row 1, column event_time: not written as {time_format!r}" in refused.err


def test_a_mapping_says_the_format_as_the_option_does(shop: Builder) -> None:
    own = shop.write("own.toml", '[events]\n[events.read]\ntime = "%d/%m/%Y"\n')
    assert span(shop.build(log("01/05/2024"), "--mapping", own))[0] == ms(2024, 5, 1)
    assert span(shop.build(log("01/05/2024"), "--mapping", own, "--time-format", "%m/%d/%Y"))[0] == ms(2024, 1, 5)
    assert span(shop.build(log("1714521600"), "--time-format", "seconds"))[0] == ms(2024, 5, 1)


@pytest.mark.parametrize("form", ["soon", "%Q.%m.%Y", "%d.%m", "%d.%d.%m.%Y", "%I:%M %d.%m.%Y", "%", ""])
def test_an_invalid_time_format_is_refused_by_name(shop: Builder, form: str) -> None:
    if form:
        built = shop.build(log("01.05.2024"), "--time-format", form)
        assert (built.code, f"--time-format {form!r}" in built.err) == (2, True)
    with pytest.raises(UsageError, match="--time-format"):
        check_read(ReadOptions(time=form))


def test_inspect_shows_the_columns_of_a_file_whose_dates_it_cannot_tell(
    shop: Builder, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shop.write("e.csv", log("01/05/2024"))
    assert cli.main(["inspect", path]) == 2
    told = capsys.readouterr().out
    assert "event_time" in told
    assert "'01/05/2024' may be 1 May 2024 or 5 January 2024" in told
    assert cli.main(["inspect", path, "--time-format", "%m/%d/%Y"]) == 0
    assert "2024-01-05 00:00:00" in capsys.readouterr().out


@given(
    st.datetimes(datetime(1970, 1, 2), datetime(2199, 1, 1)),
    st.sampled_from(["%d.%m.%Y %H:%M:%S", "%b %d, %Y %I:%M:%S %p"]),
)
def test_formats_agree_with_the_standard_library(moment: datetime, form: str) -> None:
    moment = moment.replace(microsecond=0)
    times, bad = read_format(pa.array([moment.strftime(form), None, "x"]), form)
    assert times.tolist() == [int(moment.replace(tzinfo=UTC).timestamp() * 1000), -1, -1]
    assert np.array_equal(bad, [False, True, True])


def test_a_number_among_dates_costs_its_row_and_no_other(shop: Builder) -> None:
    text = log("31/05/2024 10:00", "01/05/2024 09:00", "0", "02/05/2024")
    assert "'0'" in shop.build(text).err
    built = shop.build(text, "--skip-bad-rows")
    assert span(built) == (ms(2024, 5, 1, 9), ms(2024, 5, 31, 10))
    assert built.data["rows_bad"] == 1


def test_files_of_one_log_may_write_their_times_as_they_like(shop: Builder) -> None:
    """In one column, even: epoch seconds beside dates."""
    assert span(shop.build(log("31/05/2024", str(ms(2024, 6, 1) // 1000), "2024-05-30"))) == (
        ms(2024, 5, 30),
        ms(2024, 6, 1),
    )
