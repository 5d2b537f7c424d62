"""Where a job goes after each failure, and what it may cost: decisions, without a provider and without waiting."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recserv.config_llm import LlmSettings, ModelSettings
from recserv.llm.answers import failure_of, retry_after_s
from recserv.llm.base import (
    BadAnswer,
    ContextTooLong,
    KeyRefused,
    LlmFailure,
    ProviderDown,
    RateLimited,
    Refused,
    TimedOut,
    Usage,
)
from recserv.llm.routing import (
    BACKOFF_BASE_S,
    KEY_TURNS_MAX,
    SHRINKS_MAX,
    Progress,
    Routes,
    Step,
    next_step,
)

SAME, NEXT, SHRINK, STOP = Step.SAME_MODEL, Step.NEXT_MODEL, Step.SHRINK, Step.GIVE_UP


def step(failure: LlmFailure, *, last: bool, on_model: int = 1, left_s: float = 10.0, dice: float = 0.5) -> Step:
    progress = Progress(on_model=on_model, is_last=last, remaining_s=left_s)
    return next_step(failure, progress, 2, lambda: dice)[0]


@pytest.mark.parametrize("failure", [ProviderDown("500"), TimedOut("late"), BadAnswer("html")])
def test_what_may_pass_goes_down_the_chain_and_is_tried_again_at_its_end_only(failure: LlmFailure) -> None:
    assert step(failure, last=False) is NEXT
    assert step(failure, last=True) is SAME
    assert step(failure, last=True, on_model=2) is STOP
    assert step(failure, last=True, left_s=0.01) is STOP


def test_a_refused_request_goes_to_the_next_model_or_stops() -> None:
    assert step(Refused("404"), last=True) is STOP
    assert step(Refused("404"), last=False) is NEXT


def test_a_rate_limit_is_waited_for_if_that_is_worth_it() -> None:
    assert step(RateLimited("429", 1.0), last=False) is SAME
    assert step(RateLimited("429", 5.0), last=False) is NEXT
    assert step(RateLimited("429", 4.0), last=True) is SAME
    assert step(RateLimited("429", 60.0), last=True) is STOP
    progress = Progress(on_model=1, is_last=True, remaining_s=100.0)
    for dice in (0.0, 0.999):
        _, wait_s = next_step(RateLimited("429", 2.0), progress, 2, lambda dice=dice: dice)
        assert 2.0 < wait_s < 2.3


def test_a_prompt_shrinks_so_often_and_then_another_model_may_take_it() -> None:
    assert step(ContextTooLong("400"), last=True) is SHRINK
    assert next_step(ContextTooLong("400"), Progress(shrinks=SHRINKS_MAX), 2, lambda: 0.5)[0] is NEXT


def test_a_key_is_waited_for_and_not_for_ever() -> None:
    progress = Progress(on_model=1, is_last=True, remaining_s=60.0)
    waited_s = 0.0
    while (decided := next_step(KeyRefused("401"), progress, 2, lambda: 0.0))[0] is SAME:
        waited_s += decided[1]
        progress.key_turns += 1
    assert progress.key_turns == KEY_TURNS_MAX
    assert waited_s > 4.0, "a rotation takes a moment"


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 2))
def test_the_wait_has_full_jitter(dice: float, on_model: int) -> None:
    _, wait_s = next_step(
        ProviderDown("500"), Progress(on_model=on_model, is_last=True, remaining_s=60.0), 3, lambda: dice
    )
    assert wait_s == pytest.approx(dice * BACKOFF_BASE_S * 2 ** (on_model - 1))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.4"}, 0.4),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after": "Tue, 15 Nov 2033 12:00:05 GMT"}, 5.0),
        ({"retry-after": "Tue, 15 Nov 2022 12:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e9"}, 3600.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m30.5s"}, 90.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "250ms"}, 0.25),
        ({"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "60s"}, None),
        ({"retry-after": "1", "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "3s"}, 3.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "7"}, 7.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "when it suits"}, None),
    ],
)
def test_how_long_to_wait_is_read_from_the_headers(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, now_s=2_015_668_800.0) == seconds


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, b"", RateLimited),
        (401, b"", KeyRefused),
        (403, b"", Refused),
        (404, b"", Refused),
        (302, b"", Refused),
        (400, b'{"error": {"code": "context_length_exceeded"}}', ContextTooLong),
        (400, b'{"error": {"message": "Prompt is too long: 9 tokens > 8 maximum"}}', ContextTooLong),
        (400, b'{"error": {"message": "the request exceeds the available context size"}}', ContextTooLong),
        (400, b'{"error": "temperature"}', Refused),
        (413, b"", ContextTooLong),
        (408, b"", ProviderDown),
        (500, b"", ProviderDown),
        (529, b"", ProviderDown),
    ],
)
def test_a_status_says_what_kind_of_failure_it_is(status: int, body: bytes, kind: type) -> None:
    failure = failure_of(status, {}, body, 0.0)
    assert type(failure) is kind
    assert not failure.billable


def routes(**changes: object) -> Routes:
    prices = {"cheap": (0.42, 0.42), "dear": (8.0, 15.0)}
    models = {n: ModelSettings(input_per_million=i, output_per_million=o) for n, (i, o) in prices.items()}
    return Routes(LlmSettings(base_url="http://h/v1", models=models, **changes), clock=lambda: 0.0)  # type: ignore[arg-type]


def test_a_tier_is_a_chain_and_one_that_is_not_named_has_all_models() -> None:
    made = routes(tiers={"simple": ("dear", "cheap")})
    names: Callable[[str], list[str]] = lambda tier: [model.name for model in made.chain(tier)]  # noqa: E731
    assert names("simple") == ["dear", "cheap"]
    assert names("complex") == ["cheap", "dear"]
    assert names("unheard of") == ["dear", "cheap"]


def test_a_cost_is_counted_in_billionths_of_a_dollar() -> None:
    models = routes().models
    assert models["cheap"].cost(Usage(1_000_000, 0)) == 420_000_000
    assert models["cheap"].cost(Usage(1, 1)) == 840
    assert models["dear"].cost(Usage(700, 400)) == 700 * 8_000 + 400 * 15_000


def test_everything_is_shut_only_if_every_breaker_is_open() -> None:
    made = routes()
    cheap, dear = made.models.values()
    for model, expected in ((cheap, False), (dear, True)):
        for _ in range(20):
            model.breaker.fail(model.breaker.acquire(), 0.1)
        assert made.all_open() is expected
