"""What is an answer worth sending, and the token that stands for it."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import blake2b

import pytest

from recserv.errors import InvalidInput
from recserv.pipeline.watch_answers import answer_digest, digest_of_token, is_news, resume_token
from recserv.types import (
    DegradedReason,
    ExplanationState,
    Reason,
    ReasonType,
    Source,
)
from tests.pipeline.watch_support import answer, with_first

SHOWN = [
    answer("b", "a"),
    answer("a"),
    answer("a", "b", "c"),
    answer(model_version="m2"),
    answer(degraded_reasons=(DegradedReason.INDEX_UNAVAILABLE,)),
    answer(missing_item_ids=("x",)),
    answer(missing_categories=("x",)),
    with_first(answer(), source=Source.TRENDING),
    with_first(answer(), reasons=()),
    with_first(answer(), reasons=(Reason(ReasonType.POPULAR, text="Popular"),)),
    with_first(answer(), reasons=(Reason(ReasonType.POPULAR, ("x",)),)),
]
NOT_SHOWN = [
    answer(recommendation_id="r2"),
    answer(explanation_token="t"),
    answer(shared=True),
    answer(degraded_reasons=(DegradedReason.EXPLANATION_UNAVAILABLE,)),
    with_first(answer(), score=0.5),
    with_first(answer(), explanation="because", explanation_state=ExplanationState.READY),
]


def test_answers_differ_by_what_a_page_shows_and_by_nothing_else() -> None:
    digests = [answer_digest(answer()), *map(answer_digest, SHOWN)]
    assert len(set(digests)) == len(digests)
    assert {answer_digest(other) for other in NOT_SHOWN} == {digests[0]}


def test_a_digest_is_the_same_in_every_process() -> None:
    """Its token is taken up by another server, perhaps of another release."""
    assert resume_token(answer_digest(answer())) == TOKEN
    assert digest_of_token(TOKEN) == answer_digest(answer())


TOKEN = "Abr-UAnj_PyTLbXs3c6_"


@pytest.mark.parametrize("text", ["x", TOKEN[:-1], TOKEN + "A", "!" * 20, "é" * 20, "A" * 20, TOKEN[::-1]])
def test_text_that_is_no_token_is_told_so(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        digest_of_token(text)
    assert [(found.field, found.reason) for found in caught.value.violations] == [("resume_token", "MALFORMED")]


def test_a_token_of_another_release_stands_for_an_answer_that_is_not_known_here() -> None:
    """Servers are replaced one by one, and a watch goes on at any of them."""
    payload = b"\x02" + answer_digest(answer())
    later = urlsafe_b64encode(payload + blake2b(payload, digest_size=2).digest()).decode()
    known = digest_of_token(later)
    assert known != answer_digest(answer())
    assert is_news(answer(), known)
    assert not is_news(answer(degraded_reasons=(DegradedReason.STATE_UNAVAILABLE,)), known), "the caller has an answer"


def test_what_tells_of_trouble_only_is_no_news_for_who_has_an_answer() -> None:
    for reason in DegradedReason:
        lacking = answer("z", degraded_reasons=(reason,))
        assert is_news(lacking, b"")
        passing = reason.name in ("STATE_UNAVAILABLE", "OVERLOAD", "DEADLINE", "STAGE_FAILED")
        assert is_news(lacking, answer_digest(answer())) is not passing
