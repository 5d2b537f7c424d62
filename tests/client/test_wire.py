"""What the client says of a call outside its message, and what it makes of a newer server's answers."""

from __future__ import annotations

import pytest

from recserv import v1 as pb
from recserv.client import wire
from recserv.client.wire import call_metadata
from recserv.types import (
    DegradedReason,
    ExplanationState,
    IngestStatus,
    Priority,
    ReasonType,
    RecommendQuery,
    Source,
    TemplateCause,
)

NEWER = 77
"""A value of an enum that only a newer server knows."""


@pytest.mark.parametrize(
    ("priority", "said"),
    [(Priority.UNSPECIFIED, None), (Priority.LOW, "low"), (Priority.NORMAL, None), (Priority.HIGH, "high")],
)
def test_the_metadata_of_a_call_name_a_priority_that_is_not_normal(priority: Priority, said: str | None) -> None:
    assert list(call_metadata(RecommendQuery(priority=priority))) == (
        [] if said is None else [("x-recserv-priority", said)]
    )


def test_a_value_of_an_enum_that_the_client_does_not_know_is_unspecified() -> None:
    result = {"source": NEWER, "explanation_state": NEWER, "reasons": [{"type": NEWER}]}
    answer = wire.recommendation(pb.RecommendResponse(degraded_reasons=[NEWER], results=[result]))
    [told] = answer.results
    assert answer.degraded_reasons == (DegradedReason.UNSPECIFIED,)
    assert (told.source, told.explanation_state) == (Source.UNSPECIFIED, ExplanationState.UNSPECIFIED)
    assert told.reasons[0].type is ReasonType.UNSPECIFIED
    assert wire.ingested(pb.IngestEventResponse(status=NEWER)).status is IngestStatus.UNSPECIFIED
    explanation = wire.explanation(pb.Explanation(state=NEWER, cause=NEWER))
    assert (explanation.state, explanation.cause) == (ExplanationState.UNSPECIFIED, TemplateCause.UNSPECIFIED)
