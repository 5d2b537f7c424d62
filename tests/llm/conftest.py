from __future__ import annotations

from collections.abc import Iterator

import pytest

from recserv.llm import client
from tests.llm.mock_provider import MockProvider, mock_provider
from tests.patience import HANG_GUARD_S


@pytest.fixture(autouse=True)
def _patient_with_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CONNECT_S_MAX", HANG_GUARD_S)


@pytest.fixture(scope="session")
def _running_provider() -> Iterator[MockProvider]:
    # Paced like a real model: on a stream that arrives all at once nobody can be seen to stop reading.
    with mock_provider("--stream-chunk-delay-ms", "10") as provider:
        yield provider


@pytest.fixture
def provider(_running_provider: MockProvider) -> MockProvider:
    """llmock, with nothing scripted and nothing remembered."""
    _running_provider.reset()
    return _running_provider
