"""The examples that documents show, made to run against a test's server."""

from __future__ import annotations

import re

from tests.patience import HANG_GUARD_S
from tests.project_files import ROOT

SHOWN_TARGETS = (r'\["10\.0\.0\.1:50051", "10\.0\.0\.2:50051"\]', r'"127\.0\.0\.1:50051"')
SHOWN_TIMEOUT = r"timeout_s=[\d.]+"
WHEEL_README = ".ci/client/README.md"


def readme_examples(readme: str = "README.md") -> list[str]:
    """The Python blocks that use the client."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / readme).read_text(), flags=re.DOTALL | re.MULTILINE)
    return [block for block in blocks if "recserv.client" in block]


def aimed(example: str, target: str) -> str:
    """The example with another target, and deadlines that a slow machine keeps."""
    for shown in SHOWN_TARGETS:
        example = re.sub(shown, repr(target), example)
    assert target in example
    return re.sub(SHOWN_TIMEOUT, f"timeout_s={HANG_GUARD_S}", example)
