"""Times as people write them: by a format that was told, or with day, month and year in an order that the column shows.

    "%d.%m.%Y %H:%M"  -> TimeFormat: what is written otherwise is bad
    31/12/2024 23:59  -> written as numbers: day first or month first, as `DateOrder` finds it for all files together
    2024/12/31        -> year first: there is but one way to read it

No single value tells whether 05/01/2024 is the fifth of January or the first of May, and a wrong guess would go
unnoticed. A day above 12 anywhere decides for all; where there is none, or both orders are seen, nothing is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recserv.errors import DatasetError, UsageError
from recserv.training.columns import Mask, to_numpy

Times = npt.NDArray[np.int64]

_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_ZONE = r"Z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?"
_HALF = r"[AaPp]\.?[Mm]\.?"
_DIRECTIVES: dict[str, tuple[str, str]] = {
    "Y": ("year", "[0-9]{4}"),
    "y": ("short_year", "[0-9]{2}"),
    "m": ("month", "[0-9]{1,2}"),
    "b": ("month_name", "[A-Za-z]{3,9}"),
    "d": ("day", "[0-9]{1,2}"),
    "H": ("hour", "[0-9]{1,2}"),
    "I": ("hour_of_half", "[0-9]{1,2}"),
    "p": ("half", _HALF),
    "M": ("minute", "[0-9]{1,2}"),
    "S": ("second", "[0-9]{1,2}"),
    "f": ("fraction", "[0-9]{1,9}"),
    "z": ("zone", _ZONE),
}
_SAME = {"B": "%b", "e": "%d", "F": "%Y-%m-%d", "T": "%H:%M:%S", "R": "%H:%M"}
_NEEDED = (("year", "short_year"), ("month", "month_name"), ("day",))
_CLOCK = (
    r"(?:(?:[ T]|, ?)(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})"
    r"(?::(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,9}))?)?"
    rf"(?:\s?(?P<half>{_HALF}))?(?:\s?(?P<zone>{_ZONE}))?)?$"
)
_NUMBERS = r"^(?P<one>[0-9]{1,2})(?P<sign>[./-])(?P<other>[0-9]{1,2})(?P<sign_too>[./-])(?P<year>[0-9]{4})"
_YEAR_FIRST = r"^(?P<year>[0-9]{4})(?P<sign>[./])(?P<month>[0-9]{1,2})(?P<sign_too>[./])(?P<day>[0-9]{1,2})"
_EITHER = re.sub(r"\?P<\w+>", "?:", rf"{_NUMBERS}|{_YEAR_FIRST}")
_TWENTIETH = 69
"""%y from here on is of the last century, as in POSIX."""


def check_time_format(text: str) -> None:
    """Raises UsageError for what is no format."""
    _pattern_of(text)


def read_format(text: Any, time_format: str) -> tuple[Times, Mask]:
    """Milliseconds since the epoch, -1 where bad or null: int64 [m]; and where the text is none of this format: bool
    [m]. Without an offset it is UTC.
    """
    pattern = f"^{_pattern_of(time_format)}$"
    return _by_value(text, lambda values: _moments(_parts(values, pattern)))


def _pattern_of(text: str) -> str:
    for short, long in _SAME.items():
        text = text.replace(f"%{short}", long)
    parts, names = [], []
    tokens = re.findall(r"%.?|\s+|[^%\s]", text)
    for at, token in enumerate(tokens):
        if token.isspace():
            parts.append(r"\s+")
        elif token == "%%" or not token.startswith("%"):
            parts.append(re.escape(token[-1]))
        elif token[1:] not in _DIRECTIVES:
            known = " ".join(f"%{letter}" for letter in (*_DIRECTIVES, *_SAME))
            raise UsageError(f"--time-format {text!r}: {token} is not known; known are {known}")
        else:
            name, pattern = _DIRECTIVES[token[1:]]
            beside = (*tokens[max(at - 1, 0) : at], *tokens[at + 1 : at + 2])
            if any(other.startswith("%") and other != "%%" for other in beside):
                pattern = pattern.replace("{1,2}", "{2}")
            names.append(name)
            parts.append(f"(?P<{name}>{pattern})")
    if len(set(names)) < len(names) or not all(set(names) & set(choice) for choice in _NEEDED):
        raise UsageError(f"--time-format {text!r}: must have a year, a month and a day, and no part twice")
    if ("half" in names) != ("hour_of_half" in names):
        raise UsageError(f"--time-format {text!r}: %I and %p go together")
    return "".join(parts)


def written(text: Any) -> Mask:
    """Where a date is written as numbers, year, month and day in whatever order."""
    return to_numpy(pc.fill_null(pc.match_substring_regex(text, _EITHER), False))


def read_written(text: Any, order: DateOrder) -> tuple[Times, Mask]:
    """As `read_format`, of dates that are `written`. Raises DatasetError if their order cannot be told."""

    def read(values: Any) -> tuple[Times, Mask]:
        numbers, year_first = _parts(values, _NUMBERS + _CLOCK), _parts(values, _YEAR_FIRST + _CLOCK)
        signs = sorted(set(numbers["sign"]) - {""})
        day_first = np.isin(numbers["sign"], [sign for sign in signs if order.day_first(sign)])
        numbers["day"] = np.where(day_first, numbers["one"], numbers["other"])
        numbers["month"] = np.where(day_first, numbers["other"], numbers["one"])
        merged = {
            name: np.where(year_first["year"] != "", column, numbers[name]) for name, column in year_first.items()
        }
        times_ms, bad = _moments(merged)
        return times_ms, bad | (merged["sign"] != merged["sign_too"])

    return _by_value(text, read)


class _Seen(NamedTuple):
    path: str
    row: int
    column: str
    value: str


class DateOrder:
    """Whether dates that are written as numbers begin with the day, by all dates of all files, for each sign between
    the numbers. `look_at_all` hands every column to `look`; it is called when the first such date is met.
    """

    def __init__(self, look_at_all: Callable[[DateOrder], None]):
        self._look_at_all: Callable[[DateOrder], None] | None = look_at_all
        self._seen: dict[tuple[str, str], _Seen] = {}

    def look(self, text: Any, rows: npt.NDArray[np.int64], path: str, column: str) -> None:
        """Remembers the first date that can be read day first only, month first only, or either way with another
        result.
        """
        encoded = text.dictionary_encode()
        parts = _parts(encoded.dictionary, _NUMBERS)
        one, other = _number(parts["one"], 0), _number(parts["other"], 0)
        day_first, month_first = ((a >= 1) & (a <= 31) & (b >= 1) & (b <= 12) for a, b in ((one, other), (other, one)))
        kinds = {
            "day": day_first & ~month_first,
            "month": month_first & ~day_first,
            "either": day_first & month_first & (one != other),
        }
        codes = to_numpy(pc.fill_null(encoded.indices, -1))
        for kind, mask in kinds.items():
            for sign in set(parts["sign"][mask]):
                if (sign, kind) in self._seen:
                    continue
                found = np.flatnonzero(mask & (parts["sign"] == sign))
                at = int(np.flatnonzero(np.isin(codes, found))[0])
                self._seen[sign, kind] = _Seen(path, int(rows[at]), column, encoded.dictionary[int(codes[at])].as_py())

    def day_first(self, sign: str) -> bool:
        """Raises DatasetError if the dates do not tell."""
        if self._look_at_all is not None:
            look_at_all, self._look_at_all = self._look_at_all, None
            look_at_all(self)
        day, month, either = (self._seen.get((sign, kind)) for kind in ("day", "month", "either"))
        if day is not None and month is not None:
            problem = f"the day comes first in {day.value!r} and the month in {month.value!r}, row {month.row}; "
            raise DatasetError(day.path, f"{problem}{_which(day.value)}", row=day.row, column=day.column)
        if day is None and month is None and either is not None:
            problem = f"{_readings(either.value)}, and no date in the column says which; "
            raise DatasetError(either.path, f"{problem}{_which(either.value)}", row=either.row, column=either.column)
        return month is None


def _readings(value: str) -> str:
    parts = re.match(_NUMBERS, value)
    assert parts is not None
    one, other, year = int(parts["one"]), int(parts["other"]), int(parts["year"])
    days = [f"{day} {_MONTHS[month - 1].title()} {year}" for day, month in ((one, other), (other, one))]
    return f"{value!r} may be {days[0]} or {days[1]}"


def _which(value: str) -> str:
    parts = re.match(_NUMBERS + _CLOCK, value)
    clock = "".join(
        (f" %{'I' if parts['half'] else 'H'}:%M", ":%S" * bool(parts["second"]), " %p" * bool(parts["half"]))
        if parts is not None and parts["hour"]
        else ()
    )
    sign = value.lstrip("0123456789")[0]
    forms = " or ".join(f"'{form.replace(' ', sign)}{clock}'" for form in ("%d %m %Y", "%m %d %Y"))
    return f"--time-format {forms} says it"


def written_ms(numbers: Times, digits: int) -> npt.NDArray[np.float64]:
    """Of numbers that spell a day, followed by a time of day where `digits` is a million; -1 for none."""
    days, clock = np.divmod(numbers, digits)
    month, day = days // 100 % 100, days % 100
    first = ((days // 10_000 - 1970) * 12 + np.clip(month, 1, 12) - 1).astype("datetime64[M]")
    moment = first.astype("datetime64[D]") + (day - 1)
    hour, minute, second = clock // 10_000, clock // 100 % 100, clock % 100
    real = (month >= 1) & (month <= 12) & (day >= 1) & (moment.astype("datetime64[M]") == first)
    real &= (hour < 24) & (minute < 60) & (second < 61)
    within = ((hour * 60 + minute) * 60 + second) * 1000
    result: npt.NDArray[np.float64] = np.where(real, moment.astype("datetime64[ms]").astype(np.int64) + within, -1)
    return result


def _by_value(text: Any, read: Callable[[Any], tuple[Times, Mask]]) -> tuple[Times, Mask]:
    """Each value that occurs is read once: days are few, and so are minutes."""
    encoded = pc.fill_null(text, "").dictionary_encode()
    times_ms, bad = read(encoded.dictionary.cast(pa.string()))
    codes = to_numpy(encoded.indices)
    return times_ms[codes], bad[codes]


def _parts(values: Any, pattern: str) -> dict[str, npt.NDArray[np.str_]]:
    """The named parts of each value, "" for what it does not have."""
    found = pc.extract_regex(values, pattern)
    names = [found.type.field(at).name for at in range(found.type.num_fields)]
    return {name: np.array(pc.fill_null(found.field(name), "").to_pylist(), np.str_) for name in names}


def _number(digits: npt.NDArray[np.str_], missing: int) -> Times:
    return np.where(digits == "", str(missing), digits).astype(np.int64)


def _moments(parts: dict[str, npt.NDArray[np.str_]]) -> tuple[Times, Mask]:
    """Milliseconds since the epoch of values by their parts, -1 and bad where there is no such moment."""
    some = next(iter(parts.values()))
    nothing = np.full(len(some), "", np.str_)
    year = _number(parts.get("year", nothing), 0)
    if "short_year" in parts:
        short = _number(parts["short_year"], -1)
        year = np.where(short < 0, 0, short + np.where(short < _TWENTIETH, 2000, 1900))
    month = _number(parts.get("month", nothing), 0)
    if "month_name" in parts:
        month = np.array([_month(name) for name in parts["month_name"].tolist()], np.int64)
    day, hour = _number(parts["day"], 0), _number(parts.get("hour", nothing), 0)
    half = parts.get("half", nothing)
    bad = year == 0
    if (half != "").any():
        given = _number(parts["hour_of_half"], 0) if "hour_of_half" in parts else hour
        afternoon = np.char.startswith(np.char.lower(half), "p")
        bad |= (half != "") & ((given < 1) | (given > 12))
        hour = np.where(half != "", given % 12 + 12 * afternoon, hour)
    minute, second = (_number(parts.get(name, nothing), 0) for name in ("minute", "second"))
    spelled = ((year * 100 + month) * 100 + day) * 1_000_000 + (hour * 100 + minute) * 100 + second
    bad |= (month > 99) | (day > 99) | (minute > 59)
    moments = written_ms(np.where(bad, 0, spelled), 1_000_000)
    bad |= moments < 0
    moments += _number(np.char.ljust(parts.get("fraction", nothing), 3, "0").astype("U3"), 0)
    moments -= np.array([_offset_ms(zone) for zone in parts.get("zone", nothing).tolist()], np.int64)
    bad |= moments < 0
    return np.where(bad, -1, moments).astype(np.int64), bad


def _month(name: str) -> int:
    """0 for none."""
    low = name.lower()
    return next((at + 1 for at, month in enumerate(_MONTHS) if low and month.startswith(low)), 0)


def _offset_ms(zone: str) -> int:
    if zone[:1] not in ("+", "-"):
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    minutes = int(digits[:2]) * 60 + int(digits[2:])
    return (-minutes if zone[0] == "-" else minutes) * 60_000
