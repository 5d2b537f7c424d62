"""Arrow columns of any type into the few types that training knows, and a mask of the values that could not be read.

Every function takes one column of a batch and gives its values beside a boolean array [rows] that is true where the
value is bad. Nothing here raises for bad data; the caller knows file, row and column and decides.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recserv.training.amounts import Decimal, amounts
from recserv.training.tables import EXACT_BELOW
from recserv.types import ID_BYTES_MAX, ID_CONTROL

Mask = npt.NDArray[np.bool_]

BLANKS = " \t\r\n\u00a0\ufeff"
"""Stripped around an id; inside it they are kept, or rejected as control characters."""
PLACEHOLDERS = ("", "null", "<null>", "\\n", "undefined", "(not set)", "(none)", "nan", "none", "n/a")
"""What exports write for a missing id, in lower case."""
_TRUE = ("true", "yes", "y", "t", "1", "in stock", "instock", "available", "preorder", "pre order", "backorder")
_TRUE_TOO = ("back order", "onbackorder", "limited availability", "in_stock", "active", "published", "visible")
_FALSE = ("false", "no", "n", "f", "0", "out of stock", "outofstock", "sold out", "soldout", "unavailable")
_FALSE_TOO = ("not available", "discontinued", "archived", "draft", "hidden", "retired")


def as_text(column: Any) -> tuple[Any, Mask]:
    """UTF-8 strings, null where the value is missing. Bad: bytes that are not UTF-8, lists and objects, whole numbers
    whose last digits were lost in a float.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if _is_text(kind) or _is_bytes(kind):
        return _validated(column)
    if pa.types.is_floating(kind):
        return _float_text(column)
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_temporal(kind) or pa.types.is_null(kind):
        return column.cast(pa.string()), _none_bad(column)
    if pa.types.is_decimal(kind):
        return _decimal_text(column), _none_bad(column)
    return pa.nulls(len(column), pa.string()), to_numpy(column.is_valid())


def is_structured(kind: Any) -> bool:
    """Lists and objects, of a file that has types."""
    return bool(pa.types.is_nested(kind))


def as_number(column: Any, decimal: Decimal = "") -> tuple[npt.NDArray[np.float64], Mask]:
    """float64, NaN where the value is missing, empty or NaN. Bad: text that is no number, infinities."""
    if is_number(column.type):
        numbers = to_numpy(column.cast(pa.float64(), safe=False))
        return numbers, np.isinf(numbers)
    text, bad = as_text(column)
    text = pc.utf8_trim_whitespace(text)
    missing = to_numpy(pc.fill_null(pc.equal(text, ""), True))
    filled = pc.if_else(pa.array(missing), None, text)
    try:
        # To Arrow a point is always decimal.
        numbers = to_numpy(filled.cast(pa.int64() if decimal == "," else pa.float64()).cast(pa.float64()))
    except pa.ArrowInvalid:
        encoded = pc.fill_null(text, "").dictionary_encode()
        found, _ = amounts(encoded.dictionary.to_pylist(), decimal)
        codes = to_numpy(encoded.indices)
        numbers = np.array([one.value for one in found], np.float64)[codes]
        return numbers, bad | np.array([one.bad for one in found], bool)[codes]
    return numbers, bad | np.isinf(numbers)


def as_boolean(column: Any, missing: bool) -> tuple[npt.NDArray[np.bool_], Mask]:
    """Booleans, `missing` where there is no value. Bad: neither a boolean, nor true/false, yes/no, 1/0, nor what feeds
    say of stock ("in stock", "out_of_stock", "https://schema.org/InStock").
    """
    if pa.types.is_boolean(column.type):
        return to_numpy(pc.fill_null(column, missing)), _none_bad(column)
    text, bad = as_text(column)
    text = pc.fill_null(pc.utf8_lower(pc.utf8_trim_whitespace(text)), "")
    text = pc.replace_substring_regex(text, r"^https?://schema\.org/", "")
    text = pc.replace_substring_regex(text, r"[_-]+", " ")
    true = to_numpy(pc.is_in(text, value_set=pa.array([*_TRUE, *_TRUE_TOO])))
    false = to_numpy(pc.is_in(text, value_set=pa.array([*_FALSE, *_FALSE_TOO])))
    empty = to_numpy(pc.is_in(text, value_set=pa.array(PLACEHOLDERS)))
    return true | (empty & missing), bad | ~(true | false | empty)


def as_ids(column: Any, placeholders: Collection[str] = PLACEHOLDERS) -> tuple[Any, Mask, Mask]:
    """Ids as a dictionary-encoded column, without blanks around them; where they are missing, empty or a placeholder
    (then the id is ""); and where they are no ids: longer than ID_BYTES_MAX bytes, with control characters, not UTF-8.
    """
    text, bad = as_text(column)
    encoded = pc.fill_null(text, "").dictionary_encode()
    values = encoded.dictionary
    trimmed = pc.utf8_trim(values, characters=BLANKS)
    absent = pc.is_in(pc.utf8_lower(trimmed), value_set=pa.array(list(placeholders), pa.string()))
    cleaned = pc.if_else(absent, "", trimmed)
    if not cleaned.equals(values):
        encoded = cleaned.take(encoded.indices).dictionary_encode()
        values = encoded.dictionary
    codes = to_numpy(encoded.indices)
    missing = to_numpy(pc.equal(values, ""))[codes] & ~bad
    wrong = to_numpy(
        pc.or_(pc.greater(pc.binary_length(values), ID_BYTES_MAX), pc.match_substring_regex(values, ID_CONTROL))
    )
    if wrong.any():
        bad = bad | wrong[codes]
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


def _float_text(column: Any) -> tuple[Any, Mask]:
    """Whole numbers without a fraction: tables with gaps often store integer ids as floats. NaN stands for a gap."""
    numbers = column.cast(pa.float64())
    exact = pc.less(pc.abs(numbers), EXACT_BELOW)
    whole = pc.fill_null(pc.and_(pc.equal(pc.floor(numbers), numbers), exact), False)
    integers = pc.if_else(whole, numbers, 0.0).cast(pa.int64()).cast(pa.string())
    gaps = pc.fill_null(pc.is_nan(numbers), True)
    text = pc.if_else(gaps, None, pc.if_else(whole, integers, numbers.cast(pa.string())))
    return text, to_numpy(pc.and_(pc.invert(gaps), pc.invert(pc.fill_null(exact, True))))


def _decimal_text(column: Any) -> Any:
    """Every digit, without a fraction of zeros."""
    kind = column.type
    if kind.scale < 0:
        column = column.cast(pa.decimal256(76, 0))
    text = column.cast(pa.string())
    if kind.scale > 0:
        text = pc.replace_substring_regex(pc.replace_substring_regex(text, r"(\.[0-9]*?)0+$", r"\1"), r"\.$", "")
    return text


def is_number(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def to_numpy(column: Any) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return array


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _none_bad(column: Any) -> Mask:
    return np.zeros(len(column), bool)
