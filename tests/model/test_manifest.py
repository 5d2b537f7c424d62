"""A manifest that was written by a recserv which knew less: whole, as long as the format is the same."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest

from recserv.errors import ModelError
from recserv.model import manifest
from recserv.model.data_report import DataReport
from recserv.model.manifest import Manifest, decode, encode_manifest, encode_seal

WHOLE = Manifest(items=1, dimensions=2, sessions=0, categories=0, data=DataReport(events=3), options={"epochs": 1.0})


def as_written(content: dict[str, Any]) -> tuple[bytes, bytes]:
    """As a recserv with these fields would have written it."""
    plain = json.dumps({**content, "model_version": ""}, sort_keys=True, separators=(",", ":"))
    version = hashlib.sha256(plain.encode()).hexdigest()[:16]
    data = json.dumps({**content, "model_version": version}, sort_keys=True, indent=2).encode() + b"\n"
    return data, encode_seal(data, 0)


def test_what_is_written_today_is_read_and_named_as_ever() -> None:
    named, data = encode_manifest(WHOLE)
    assert decode(data, encode_seal(data, 0))[0] == named
    assert as_written(msgspec.to_builtins(WHOLE)) == (data, encode_seal(data, 0))


def test_fields_that_came_later_do_not_make_an_older_model_another_one() -> None:
    content = msgspec.to_builtins(WHOLE)
    for later in ("ties", "holdout", "rows_by_rule"):
        del content["data"][later]
    data, seal = as_written(content)
    found, _ = decode(data, seal)
    assert found.data == WHOLE.data
    assert found.model_version == json.loads(data)["model_version"] != encode_manifest(WHOLE)[0].model_version


def test_a_version_that_is_not_the_digest_of_the_content_is_refused() -> None:
    named, _ = encode_manifest(WHOLE)
    data = manifest._ENCODER.encode(msgspec.structs.replace(named, model_version="0" * 16))
    with pytest.raises(ModelError, match="not the digest"):
        decode(data, encode_seal(data, 0))
