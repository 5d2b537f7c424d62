"""What the contract says to generators and to gateways. A file that is added says it too."""

from __future__ import annotations

import sys

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor

from recserv import v1 as pb
from tests.stubs import CONTRACT

LANGUAGES = {
    *["csharp_namespace", "go_package", "java_multiple_files", "java_outer_classname", "java_package"],
    *["objc_class_prefix", "php_metadata_namespace", "php_namespace", "ruby_package", "swift_prefix"],
}
FILES = [sys.modules[f"recserv.v1.{path.stem}_pb2"].DESCRIPTOR for path in CONTRACT]
METHODS = pb.recommendation_service_pb2.DESCRIPTOR.services_by_name["RecommendationService"].methods


def _said(options: descriptor_pb2.FileOptions) -> dict[str, object]:
    return {field.name: value for field, value in options.ListFields()}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_file_says_what_it_is_called_in_every_language(file: FileDescriptor) -> None:
    """To set one of them later, or to change it, breaks the programs of those who generated without it."""
    said = _said(file.GetOptions())
    assert set(said) == LANGUAGES
    everywhere = LANGUAGES - {"java_outer_classname"}
    assert {name: said[name] for name in everywhere} == {
        name: _said(FILES[0].GetOptions())[name] for name in everywhere
    }


def test_no_message_has_the_name_of_a_files_class_in_java() -> None:
    classes = [str(_said(file.GetOptions())["java_outer_classname"]) for file in FILES]
    names = {name for file in FILES for name in (*file.message_types_by_name, *file.enum_types_by_name)}
    assert len(set(classes)) == len(classes)
    assert names & set(classes) == set()


def test_in_go_a_file_lies_where_its_package_is_looked_for() -> None:
    path, _, name = str(_said(FILES[0].GetOptions())["go_package"]).partition(";")
    assert {file.name.rpartition("/")[0] for file in FILES} == {path}
    assert name == path.replace("/", "")


def test_every_method_may_be_sent_again_and_none_may_become_a_get() -> None:
    levels = {method.name: method.GetOptions().idempotency_level for method in METHODS}
    assert set(levels.values()) == {descriptor_pb2.MethodOptions.IDEMPOTENT}, levels
