from __future__ import annotations

from enum import IntEnum

import pytest
from google.protobuf.descriptor import FileDescriptor

from recserv import types
from recserv import v1 as pb

ENUMS = {
    "EVENT_TYPE": types.EventType,
    "SOURCE": types.Source,
    "REASON_TYPE": types.ReasonType,
    "DEGRADED_REASON": types.DegradedReason,
    "EXPLAIN_MODE": types.ExplainMode,
    "EXPLANATION_STATE": types.ExplanationState,
    "PRIORITY": types.Priority,
    "INGEST_STATUS": types.IngestStatus,
    "TEMPLATE_CAUSE": types.TemplateCause,
}


@pytest.mark.parametrize("prefix", ENUMS)
def test_our_enums_have_the_names_and_numbers_of_the_wires(prefix: str) -> None:
    """`convert.enum` passes them on as they are."""
    ours: type[IntEnum] = ENUMS[prefix]
    wire = getattr(pb, ours.__name__)
    assert {f"{prefix}_{member.name}": int(member) for member in ours} == dict(wire.items())


def test_every_enum_of_the_wire_is_one_of_ours() -> None:
    wires = {
        name
        for module in vars(pb).values()
        if isinstance(file := getattr(module, "DESCRIPTOR", None), FileDescriptor) and file.package == "recserv.v1"
        for name in file.enum_types_by_name
    }
    assert {kind.__name__ for kind in ENUMS.values()} == wires
