from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recserv.bench.histogram import HIGHEST_S, PRECISION, Histogram

spans = st.lists(st.floats(min_value=2e-6, max_value=100.0), min_size=1, max_size=200)


def _of(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


@given(spans, st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_quantiles_are_within_the_precision_of_the_sorted_values(values: list[float], share: float) -> None:
    exact = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
    assert _of(values).quantile_s(share) == pytest.approx(exact, rel=PRECISION - 1)


@given(spans, spans)
def test_adding_two_is_recording_both(left: list[float], right: list[float]) -> None:
    added, both = _of(left), _of(left + right)
    added.add(_of(right))
    assert np.array_equal(added.counts, both.counts)
    assert added.max_s == both.max_s == max(left + right)


def test_what_lies_outside_the_range_is_counted_at_its_end() -> None:
    histogram = _of([0.0, -1.0, HIGHEST_S * 10])
    assert histogram.count == 3
    assert histogram.max_s == HIGHEST_S * 10


def test_an_empty_histogram_has_no_quantiles() -> None:
    assert math.isnan(Histogram().quantile_s(0.5))
