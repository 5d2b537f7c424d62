from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.files.support import Builder


@pytest.fixture
def shop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Builder:
    return Builder(tmp_path, capsys)
