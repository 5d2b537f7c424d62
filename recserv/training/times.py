"""Parses times in any notation into milliseconds since the epoch.

Epoch seconds, milliseconds, microseconds, nanoseconds (by size, or told); days and moments as numbers (20240501,
20240501102233); ISO 8601 with or without an offset, also with a space before it or the word UTC behind; day, month and
year with signs between them, in a format that was told or an order that the column shows (`written_dates`). What names
no offset is UTC.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recserv.errors import UsageError
from recserv.training.columns import Mask, as_number, as_text, is_number, to_numpy
from recserv.training.written_dates import DateOrder, check_time_format, read_format, read_written, written, written_ms

AUTO = "auto"

NO_TIME = "neither ISO 8601 nor an epoch time; --time-format can name its format"
TIME_MS_MIN = 631_152_000_000
"""1990: anything older is not a time but another kind of number, read as one."""
_TIME_MS_MAX = 7_258_118_400_000  # the year 2200
# An epoch time is in seconds below this, else in milliseconds, microseconds, nanoseconds: each a thousand times more.
# The bounds lie in the year 5138 read as the smaller unit and in 1973 read as the larger one.
_SECONDS_BELOW = 1e11
_SCALES: dict[str, float] = {"seconds": 1e3, "milliseconds": 1.0, "microseconds": 1e-3, "nanoseconds": 1e-6}
# As epoch seconds the first would be 1970, as milliseconds the second beyond 2200: neither can be meant.
_DAYS = (19_900_101, 22_001_231)
_MOMENTS = (19_900_101_000_000, 22_001_231_235_959)
_ZONES = (
    (r"\s*(?:UTC|GMT|Z)$", "Z"),
    (r"\s+([+-][0-9]{2}(?::?[0-9]{2})?)$", r"\1"),
    (r"([.,][0-9]{6})[0-9]+", r"\1"),
)


def check_time_form(form: str) -> None:
    """Raises UsageError for what is neither a unit nor a format."""
    if "%" in form:
        check_time_format(form)
    elif form not in (AUTO, *_SCALES):
        raise UsageError(f"--time-format {form!r}: {', '.join(_SCALES)}, or a format such as '%d.%m.%Y %H:%M'")


def as_time_ms(column: Any, form: str = AUTO, order: DateOrder | None = None) -> tuple[npt.NDArray[np.int64], Mask]:
    """Milliseconds since the epoch; -1 where missing. Bad: none of the notations, or before 1970. `form`: the unit of
    numbers (AUTO: by size), or the format of text. `order` None: dates that depend on it are bad; raises DatasetError
    if it cannot be told.
    """
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        times = column.cast(pa.timestamp("ms", getattr(kind, "tz", None)), safe=False).cast(pa.int64())
        times_ms = np.array(to_numpy(pc.fill_null(times, -1)), np.int64)
        missing = to_numpy(column.is_null())
        return times_ms, ((times_ms < 0) | (times_ms > _TIME_MS_MAX)) & ~missing
    if "%" in form:
        return _formatted_ms(*as_text(column), form)
    if is_number(kind):
        return _epoch_ms(*as_number(column), form)
    text, bad = as_text(column)
    whole = _whole_numbers(text)
    if whole is not None:
        times_ms, bad_times = _epoch_ms(whole, bad, form)
        return times_ms, bad | bad_times
    text = pc.utf8_trim_whitespace(text)
    missing = to_numpy(pc.fill_null(pc.equal(text, ""), True))
    numeric = to_numpy(pc.fill_null(pc.match_substring_regex(text, r"^[0-9]+(\.[0-9]*)?$"), False))
    if (numeric | missing).all():
        times_ms, bad_times = _epoch_ms(*as_number(text), form)
    else:
        text = pc.if_else(pa.array(missing), None, text)
        times_ms, bad_times = _text_ms(text, order, form if numeric.any() else "")
    return times_ms, bad | (bad_times & ~missing)


def parse_time(text: str) -> int | None:
    """One time in any of the notations, in ms; None for what is none."""
    times_ms, bad = as_time_ms(pa.array([text]))
    return None if bad[0] or times_ms[0] < 0 else int(times_ms[0])


def _formatted_ms(text: Any, bad: Mask, form: str) -> tuple[npt.NDArray[np.int64], Mask]:
    text = pc.utf8_trim_whitespace(text)
    missing = to_numpy(pc.fill_null(pc.equal(text, ""), True))
    times_ms, bad_times = read_format(text, form)
    return times_ms, bad | (bad_times & ~missing)


def _text_ms(text: Any, order: DateOrder | None, unit: str) -> tuple[npt.NDArray[np.int64], Mask]:
    """Of text that is not all numbers; `unit` of those among it, "" for none. Only where something is not ISO 8601 it
    is looked at for other notations.
    """
    stamps = None if unit else _cast(text)
    if stamps is not None or order is None:
        return _plain_ms(text, unit, stamps)
    dates = written(text)
    if not dates.any():
        return _plain_ms(text, unit)
    times_ms, bad = read_written(text, order)
    if not dates.all():
        times_ms[~dates], bad[~dates] = _plain_ms(text.filter(pa.array(~dates)), unit)
    return times_ms, bad


def _plain_ms(text: Any, unit: str, stamps: Any = None) -> tuple[npt.NDArray[np.int64], Mask]:
    """Of text without written dates: numbers of a unit among it, or ISO 8601 alone."""
    return _one_by_one(text, unit) if unit else _iso_ms(text, stamps)


def _whole_numbers(text: Any) -> npt.NDArray[np.float64] | None:
    """The fast path for what most logs contain; None if a value is anything else. NaN where a value is missing."""
    try:
        numbers = pc.if_else(pc.equal(text, ""), None, text).cast(pa.int64())
    except pa.ArrowInvalid:
        return None
    whole: npt.NDArray[np.float64] = to_numpy(numbers.cast(pa.float64(), safe=False))
    return whole


def _epoch_ms(numbers: npt.NDArray[np.float64], bad: Mask, unit: str) -> tuple[npt.NDArray[np.int64], Mask]:
    missing = np.isnan(numbers) & ~bad
    numbers = np.where(np.isfinite(numbers), numbers, -1.0)
    if unit != "auto":
        scaled = numbers * _SCALES[unit]
    else:
        bounds = [numbers < _SECONDS_BELOW * size for size in (1, 1e3, 1e6)]
        scaled = numbers * np.select(bounds, list(_SCALES.values())[:3], _SCALES["nanoseconds"])
        for (least, most), digits in ((_DAYS, 1), (_MOMENTS, 1_000_000)):
            written = (numbers >= least) & (numbers <= most)
            if written.any():
                scaled[written] = written_ms(numbers[written].astype(np.int64), digits)
    bad = bad | (((scaled < 0) | (scaled > _TIME_MS_MAX)) & ~missing)
    times_ms: npt.NDArray[np.int64] = np.where(bad | missing, -1, np.rint(scaled)).astype(np.int64)
    return times_ms, bad


def _iso_ms(text: Any, stamps: Any = None) -> tuple[npt.NDArray[np.int64], Mask]:
    """`stamps`: what `_cast` made of it."""
    if stamps is None:
        for pattern, replacement in _ZONES:
            text = pc.replace_substring_regex(text, pattern, replacement)
        stamps = _cast(text)
    if stamps is None:
        return _one_by_one(text, "auto")
    times_ms = to_numpy(pc.fill_null(stamps.cast(pa.int64()), -1)) // 1000
    return times_ms, times_ms < 0


def _cast(text: Any) -> Any:
    """None where a value is not ISO 8601, or only some name their offset."""
    for zone in (None, "UTC"):
        try:
            return text.cast(pa.timestamp("us", zone))
        except pa.ArrowInvalid:
            continue
    return None


def _one_by_one(text: Any, unit: str) -> tuple[npt.NDArray[np.int64], Mask]:
    """The slow path for a batch with bad values or mixed notations."""
    for pattern, replacement in _ZONES:
        text = pc.replace_substring_regex(text, pattern, replacement)
    times_ms = np.array([_time_ms(value, unit) for value in text.to_pylist()], np.int64)
    return times_ms, times_ms < 0


def _time_ms(value: str | None, unit: str) -> int:
    if not value:
        return -1
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isnan(number):
        return int(_epoch_ms(np.array([number]), np.zeros(1, bool), unit)[0][0])
    try:
        moment = datetime.fromisoformat(value)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        return -1
