from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recserv.training.columns import as_boolean, as_ids, as_number, as_text
from recserv.training.times import as_time_ms

MOMENT_MS = 1_483_271_606_000
"""2017-01-01T11:53:26Z"""


@pytest.mark.parametrize(
    "value",
    [
        "2017-01-01T11:53:26Z",
        "2017-01-01 11:53:26",
        "2017-01-01T11:53:26.000+00:00",
        "2017-01-01T13:53:26+02:00",
        "1483271606",
        "1483271606000",
        " 1483271606000 ",
        "1483271606000000",
        "1483271606.0",
        1483271606,
        1483271606000,
        1483271606000000000,
        1483271606.0,
        datetime(2017, 1, 1, 11, 53, 26),
        datetime(2017, 1, 1, 11, 53, 26, tzinfo=UTC),
    ],
)
def test_a_time_is_read_whatever_its_notation(value: object) -> None:
    times, bad = as_time_ms(pa.array([value, None]))
    assert times.tolist() == [MOMENT_MS, -1]
    assert not bad.any()


def test_notations_may_be_mixed_and_bad_times_are_found_among_them() -> None:
    column = pa.array(["2017-01-01T11:53:26Z", "yesterday", "1483271606", "", "2017-01-01 11:53:26", "12/1/2010 8:26"])
    times, bad = as_time_ms(column)
    assert bad.tolist() == [False, True, False, False, False, True]
    assert times[[0, 2, 4]].tolist() == [MOMENT_MS] * 3


@pytest.mark.parametrize("value", [-5, float("inf"), "-5", "1e99", "99999999999999999999"])
def test_a_time_that_is_negative_infinite_or_too_large_is_bad(value: object) -> None:
    assert as_time_ms(pa.array([value]))[1].tolist() == [True]


def test_a_fraction_of_a_second_is_kept() -> None:
    times, _ = as_time_ms(pa.array(["2017-01-01T11:53:26.25Z"]))
    assert times.tolist() == [MOMENT_MS + 250]


@given(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)))
def test_iso_times_agree_with_the_standard_library(moment: datetime) -> None:
    expected = (moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) / (datetime.resolution * 1000)
    times, bad = as_time_ms(pa.array([moment.isoformat()]))
    assert not bad.any()
    assert times[0] == int(expected)


@given(st.lists(st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=8)), max_size=20))
def test_any_text_is_a_number_or_missing_or_bad(values: list[object]) -> None:
    column = pa.array([None if value is None else str(value) for value in values], pa.string())
    numbers, bad = as_number(column)
    assert len(numbers) == len(bad) == len(values)
    assert np.isfinite(numbers[~bad & ~np.isnan(numbers)]).all()


def test_empty_and_nan_are_missing_numbers_infinity_and_words_are_bad() -> None:
    numbers, bad = as_number(pa.array(["1.5", "", None, "nan", "inf", "x", "-2"]))
    assert bad.tolist() == [False, False, False, False, True, True, False]
    assert numbers[[0, 6]].tolist() == [1.5, -2]
    assert np.isnan(numbers[[1, 2, 3]]).all()


def test_integer_ids_stored_as_floats_lose_the_fraction() -> None:
    text, _ = as_text(pa.array([12346.0, None, 1.5, float("nan")]))
    assert text.to_pylist() == ["12346", None, "1.5", None]


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint16(), pa.string(), pa.large_string(), pa.decimal128(20, 0)])
def test_ids_of_any_type_become_text(kind: pa.DataType) -> None:
    text, bad = as_text(pa.array([7]).cast(kind))
    assert text.to_pylist() == ["7"]
    assert not bad.any()


def test_a_dictionary_encoded_column_reads_as_text() -> None:
    assert as_text(pa.array(["a", "b", "a"]).dictionary_encode())[0].to_pylist() == ["a", "b", "a"]


def test_bytes_that_are_not_utf8_are_bad_where_they_are() -> None:
    text, bad = as_text(pa.array([b"fine", b"\xff\xfe", None]))
    assert text.to_pylist() == ["fine", None, None]
    assert bad.tolist() == [False, True, False]


def test_a_list_in_a_text_column_is_a_bad_value() -> None:
    assert as_text(pa.array([["a"]]))[1].tolist() == [True]


def test_ids_must_be_short_and_without_control_characters() -> None:
    encoded, missing, bad = as_ids(pa.array(["good", "", None, "a\nb", "x" * 257, "x" * 256, "nul\0", "\u00e4" * 128]))
    assert missing.tolist() == [False, True, True, False, False, False, False, False]
    assert bad.tolist() == [False, False, False, True, True, False, True, False]
    assert encoded.to_pylist()[0] == "good"


def test_truth_values_are_read_from_text_and_numbers() -> None:
    values, bad = as_boolean(pa.array(["TRUE", "no", "1", "0", "", None, "maybe"]), missing=True)
    assert values[:6].tolist() == [True, False, True, False, True, True]
    assert bad.tolist() == [False] * 6 + [True]
    assert as_boolean(pa.array([True, False, None]), missing=False)[0].tolist() == [True, False, False]
    assert as_boolean(pa.array([1, 0]), missing=True)[0].tolist() == [True, False]
