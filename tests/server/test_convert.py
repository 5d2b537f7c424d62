"""Results that many answers share are put on the wire as those of one are."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from recserv.server.convert import SharedResults, recommendation_to_wire
from recserv.types import DegradedReason, Reason, ReasonType, Recommendation, Result, Source

reasons = st.builds(Reason, st.sampled_from(ReasonType), st.tuples(st.text(max_size=5)), st.text(max_size=9))
results = st.builds(
    Result,
    item_id=st.text(min_size=1, max_size=9),
    score=st.floats(-1, 1, width=32),
    rank=st.integers(1, 100),
    source=st.sampled_from(Source),
    reasons=st.lists(reasons, max_size=2).map(tuple),
)


def answer(found: tuple[Result, ...], number: int = 0, *, shared: bool = True) -> Recommendation:
    return Recommendation(
        results=found,
        recommendation_id=f"id-{number}",
        model_version="v",
        degraded_reasons=(DegradedReason.OVERLOAD,),
        shared=shared,
    )


@given(st.lists(st.lists(results, max_size=5).map(tuple), min_size=1, max_size=6), st.data())
def test_shared_or_not_the_bytes_are_the_same(pages: list[tuple[Result, ...]], data: st.DataObject) -> None:
    kept = SharedResults(kept_max=2)
    for number in range(12):
        one = answer(data.draw(st.sampled_from(pages)), number)
        alone = recommendation_to_wire(msgspec.structs.replace(one, shared=False), SharedResults())
        message = recommendation_to_wire(one, kept)
        assert message == alone
        assert message.SerializeToString(deterministic=True) == alone.SerializeToString(deterministic=True)
        # What the caller does with its message is its own affair.
        message.results.add(item_id="another")
        assert len(kept) <= 2


def test_results_of_one_answer_are_not_kept() -> None:
    kept = SharedResults()
    recommendation_to_wire(answer((Result(item_id="a", score=1.0, rank=1, source=Source.POPULAR),), shared=False), kept)
    assert len(kept) == 0
