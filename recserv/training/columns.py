"""Arrow columns of any type into the few types that training knows, and a mask of the values that could not be read.

Every function takes one column of a batch and gives its values beside a boolean array [rows] that is true where the
value is bad. Nothing here raises for bad data; the caller knows file, row and column and decides.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recserv.types import ID_BYTES_MAX

Mask = npt.NDArray[np.bool_]

# An epoch time is in seconds below this, else in milliseconds, microseconds, nanoseconds: each a thousand times more.
# The bounds lie in the year 5138 read as the smaller unit and in 1973 read as the larger one.
_SECONDS_BELOW = 1e11
_TIME_MS_MAX = 7_258_118_400_000  # the year 2200
_CONTROL = r"[\x00-\x1f\x7f]"


def as_text(column: Any) -> tuple[Any, Mask]:
    """UTF-8 strings, null where the value is missing. Bad: bytes that are not UTF-8."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if _is_text(kind) or _is_bytes(kind):
        return _validated(column)
    if pa.types.is_floating(kind):
        return _float_text(column), _none_bad(column)
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_temporal(kind) or pa.types.is_null(kind):
        return column.cast(pa.string()), _none_bad(column)
    if pa.types.is_decimal(kind):
        return column.cast(pa.float64()).cast(pa.string()), _none_bad(column)
    return pa.nulls(len(column), pa.string()), np.ones(len(column), bool)


def as_number(column: Any) -> tuple[npt.NDArray[np.float64], Mask]:
    """float64, NaN where the value is missing or empty. Bad: text that is no number, NaN and infinities written out."""
    if _is_number(column.type):
        numbers = _to_numpy(column.cast(pa.float64(), safe=False))
        missing = _to_numpy(column.is_null())
        return numbers, ~np.isfinite(numbers) & ~missing
    text, bad = as_text(column)
    text = pc.utf8_trim_whitespace(text)
    missing = _to_numpy(pc.fill_null(pc.equal(text, ""), True))
    try:
        numbers = _to_numpy(pc.if_else(pa.array(missing), None, text).cast(pa.float64()))
    except pa.ArrowInvalid:
        numbers = np.array([_number(value) for value in text.to_pylist()], np.float64)
    return numbers, bad | (~np.isfinite(numbers) & ~missing)


def as_time_ms(column: Any) -> tuple[npt.NDArray[np.int64], Mask]:
    """Milliseconds since the epoch; -1 where missing. Bad: neither ISO 8601 nor an epoch time, or before 1970."""
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        times = pc.fill_null(
            column.cast(pa.timestamp("ms", getattr(kind, "tz", None)), safe=False).cast(pa.int64()), -1
        )
        times_ms = np.array(_to_numpy(times), np.int64)
        missing = _to_numpy(column.is_null())
        return times_ms, ((times_ms < 0) | (times_ms > _TIME_MS_MAX)) & ~missing
    if _is_number(kind):
        return _epoch_ms(*as_number(column))
    text, bad = as_text(column)
    text = pc.utf8_trim_whitespace(text)
    missing = _to_numpy(pc.fill_null(pc.equal(text, ""), True))
    numeric = _to_numpy(pc.fill_null(pc.match_substring_regex(text, r"^[0-9]+(\.[0-9]*)?$"), False))
    if (numeric | missing).all():
        times_ms, bad_times = _epoch_ms(*as_number(text))
    elif numeric.any():
        times_ms, bad_times = _times_one_by_one(text)
    else:
        times_ms, bad_times = _iso_ms(pc.if_else(pa.array(missing), None, text))
    return times_ms, bad | (bad_times & ~missing)


def as_boolean(column: Any, missing: bool) -> tuple[npt.NDArray[np.bool_], Mask]:
    """Booleans, `missing` where there is no value. Bad: neither true/false, yes/no, 1/0 nor a boolean."""
    if pa.types.is_boolean(column.type):
        return _to_numpy(pc.fill_null(column, missing)), _none_bad(column)
    text, bad = as_text(column)
    text = pc.fill_null(pc.utf8_lower(pc.utf8_trim_whitespace(text)), "")
    true = _to_numpy(pc.is_in(text, value_set=pa.array(["true", "yes", "y", "t", "1"])))
    false = _to_numpy(pc.is_in(text, value_set=pa.array(["false", "no", "n", "f", "0"])))
    empty = _to_numpy(pc.equal(text, ""))
    return true | (empty & missing), bad | ~(true | false | empty)


def as_ids(column: Any) -> tuple[Any, Mask, Mask]:
    """Ids as a dictionary-encoded column, where they are missing or empty, and where they are no ids: longer than
    ID_BYTES_MAX bytes, with control characters, not UTF-8.
    """
    text, bad = as_text(column)
    missing = _to_numpy(pc.fill_null(pc.equal(text, ""), True)) & ~bad
    encoded = pc.fill_null(text, "").dictionary_encode()
    values = encoded.dictionary
    wrong = pc.or_(pc.greater(pc.binary_length(values), ID_BYTES_MAX), pc.match_substring_regex(values, _CONTROL))
    wrong_values = _to_numpy(wrong)
    if wrong_values.any():
        bad = bad | wrong_values[_to_numpy(encoded.indices)]
    return encoded, missing, bad


def _validated(column: Any) -> tuple[Any, Mask]:
    raw = column.cast(pa.large_binary())
    try:
        return raw.cast(pa.large_string()).cast(pa.string()), _none_bad(column)
    except pa.ArrowInvalid:
        values = [_utf8(value) for value in raw.to_pylist()]
        bad = np.array([value is False for value in values], bool)
        return pa.array([None if value is False else value for value in values], pa.string()), bad


def _utf8(value: bytes | None) -> str | bool | None:
    """False: not UTF-8."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return False


def _float_text(column: Any) -> Any:
    """Whole numbers without a fraction: tables with gaps often store integer ids as floats. NaN stands for a gap."""
    numbers = column.cast(pa.float64())
    whole = pc.fill_null(pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less(pc.abs(numbers), 2.0**53)), False)
    integers = pc.if_else(whole, numbers, 0.0).cast(pa.int64()).cast(pa.string())
    gaps = pc.fill_null(pc.is_nan(numbers), True)
    return pc.if_else(gaps, None, pc.if_else(whole, integers, numbers.cast(pa.string())))


def _epoch_ms(numbers: npt.NDArray[np.float64], bad: Mask) -> tuple[npt.NDArray[np.int64], Mask]:
    missing = np.isnan(numbers) & ~bad
    numbers = np.where(np.isfinite(numbers), numbers, -1.0)
    scale = np.select(
        [numbers < _SECONDS_BELOW, numbers < _SECONDS_BELOW * 1e3, numbers < _SECONDS_BELOW * 1e6],
        [1e3, 1.0, 1e-3],
        1e-6,
    )
    scaled = numbers * scale
    bad = bad | (((scaled < 0) | (scaled > _TIME_MS_MAX)) & ~missing)
    times_ms: npt.NDArray[np.int64] = np.where(bad | missing, -1, np.rint(scaled)).astype(np.int64)
    return times_ms, bad


def _iso_ms(text: Any) -> tuple[npt.NDArray[np.int64], Mask]:
    for zone in (None, "UTC"):
        try:
            stamps = text.cast(pa.timestamp("us", zone))
        except pa.ArrowInvalid:
            continue
        times_ms = _to_numpy(pc.fill_null(stamps.cast(pa.int64()), -1)) // 1000
        return times_ms, times_ms < 0
    return _times_one_by_one(text)


def _times_one_by_one(text: Any) -> tuple[npt.NDArray[np.int64], Mask]:
    """The slow way for a batch in which something is bad or notations are mixed."""
    times_ms = np.array([_time_ms(value) for value in text.to_pylist()], np.int64)
    return times_ms, times_ms < 0


def _time_ms(value: str | None) -> int:
    if not value:
        return -1
    number = _number(value)
    if not math.isnan(number):
        return int(_epoch_ms(np.array([number]), np.zeros(1, bool))[0][0])
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return -1
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def _number(value: str | None) -> float:
    try:
        return float(value) if value else math.nan
    except ValueError:
        return math.nan


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _none_bad(column: Any) -> Mask:
    return np.zeros(len(column), bool)


def _to_numpy(column: Any) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return array
