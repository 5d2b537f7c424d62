"""What operators see, through a whole server."""

from __future__ import annotations

from pathlib import Path

from recserv import v1 as pb
from recserv.config_llm import LlmSettings, ModelSettings
from tests.llm.servers import provider_process
from tests.patience import HANG_GUARD_S, eventually
from tests.server.live import LiveApp

PRICES = ModelSettings(input_per_million=1.0, output_per_million=2.0)


def patient_app(model: Path, state: Path, url: str) -> LiveApp:
    patient = {"attempt_timeout_s": HANG_GUARD_S, "job_deadline_s": HANG_GUARD_S}
    return LiveApp(model, state, llm=LlmSettings(base_url=url, models={"small": PRICES}, **patient))


def idle(app: LiveApp) -> bool:
    registry = app.app.metrics.registry
    return registry.get_sample_value("recserv_explanation_jobs_in_flight") == 0


def test_calls_tokens_cost_lookups_and_jobs_are_counted(tiny_model: Path, tmp_path: Path) -> None:
    with provider_process() as url:
        app = patient_app(tiny_model, tmp_path / "state", url)
        request = pb.RecommendRequest(
            anchor_item_ids=["item-4"], explain=pb.EXPLAIN_MODE_LLM_ASYNC, page_size=3, return_items=True
        )
        for expected in (pb.EXPLANATION_STATE_PENDING, pb.EXPLANATION_STATE_READY):
            answer = pb.RecommendResponse.FromString(app.unary("Recommend", request))
            assert {result.explanation_state for result in answer.results} == {expected}
            watch = pb.WatchExplanationsRequest(explanation_token=answer.explanation_token)
            assert len(app.server_stream("WatchExplanations", watch)) == 3
        told = pb.GetExplanationsResponse.FromString(
            app.unary("GetExplanations", pb.GetExplanationsRequest(explanation_token=answer.explanation_token))
        )
        assert told.state == pb.EXPLANATION_STATE_READY
        # Texts land before the answer is over.
        eventually(lambda: idle(app))
        samples = {
            ("recserv_llm_calls_total", "model=small outcome=ok"): 1,
            ("recserv_llm_call_duration_seconds_count", "model=small"): 1,
            ("recserv_llm_tokens_total", "model=small direction=input"): 100,
            ("recserv_llm_tokens_total", "model=small direction=output"): 50,
            ("recserv_llm_cost_dollars_total", "model=small basis=reported"): 0.0002,
            ("recserv_explanation_lookups_total", "result=miss"): 3,
            ("recserv_explanation_lookups_total", "result=hit"): 3,
            ("recserv_explanation_jobs_total", "outcome=ready"): 1,
            ("recserv_explanation_wait_seconds_count", ""): 1,
        }
        for (name, labels), value in samples.items():
            given = dict(pair.split("=") for pair in labels.split())
            assert app.sample(name, **given) == value, (name, labels)
        registry = app.app.metrics.registry
        assert registry.get_sample_value("recserv_explanation_queue_jobs") == 0
        assert registry.get_sample_value("recserv_breaker_state", {"breaker": "llm:small"}) == 0
        app.close()


def test_a_thousand_sessions_in_the_same_situation_cause_one_call(tiny_model: Path, tmp_path: Path) -> None:
    with provider_process("--delay-ms", "300") as url:
        app = patient_app(tiny_model, tmp_path / "state", url)
        tokens = []
        for number in range(1000):
            request = pb.RecommendRequest(
                session_id=f"session-{number}",
                user_id=f"user-{number}",
                context_events=[pb.Event(event_type=pb.EVENT_TYPE_VIEW, item_id="item-4")],
                explain=pb.EXPLAIN_MODE_LLM_ASYNC,
            )
            tokens.append(pb.RecommendResponse.FromString(app.unary("Recommend", request)).explanation_token)
        for token in tokens[::50]:
            watch = pb.WatchExplanationsRequest(explanation_token=token)
            watched = app.server_stream("WatchExplanations", watch)
            states = {pb.WatchExplanationsResponse.FromString(raw).explanation.state for raw in watched}
            assert states == {pb.EXPLANATION_STATE_READY}
        eventually(lambda: idle(app))
        assert app.sample("recserv_llm_calls_total", model="small", outcome="ok") == 1
        counted = [app.sample("recserv_explanation_lookups_total", result=r) for r in ("miss", "joined", "hit")]
        assert counted[0] == 10
        assert sum(counted) == 10_000
        app.close()


def test_without_a_model_the_reasons_are_final_and_say_so(tiny_model: Path, tmp_path: Path) -> None:
    app = LiveApp(tiny_model, tmp_path / "state")
    request = pb.RecommendRequest(anchor_item_ids=["item-4"], explain=pb.EXPLAIN_MODE_LLM_ASYNC, page_size=3)
    answer = pb.RecommendResponse.FromString(app.unary("Recommend", request))
    watch = pb.WatchExplanationsRequest(explanation_token=answer.explanation_token)
    watched = [
        pb.WatchExplanationsResponse.FromString(raw).explanation
        for raw in app.server_stream("WatchExplanations", watch)
    ]
    assert {(w.state, w.cause) for w in watched} == {(pb.EXPLANATION_STATE_TEMPLATE, pb.TEMPLATE_CAUSE_NOT_CONFIGURED)}
    assert [w.text for w in watched] == [result.reasons[0].text for result in answer.results]
    app.close()
