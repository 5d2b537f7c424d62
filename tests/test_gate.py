"""Tests of the gate fail for a wrong program only, so none of them may depend on how fast the machine is.

Found by reading their source: a clock's reading that is compared, and a sleep that waits for something to have
happened. What asserts a time is a benchmark; what waits for something uses `tests.patience`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import LANES
from tests.project_files import ROOT, project_files

CLOCKS = {"perf_counter", "perf_counter_ns", "monotonic", "monotonic_ns", "process_time", "thread_time"}
"""Of the module `time`; `time.time` stamps events and is not among them. `loop.time()` is."""
SLEEP_S_MAX = 0.05
LANE_FOLDERS = {"benchmark", "chaos", "clients", "soak", "web"}
"""Whole folders of the long lanes, with what they share."""
GUARDS = Path("tests/patience.py")


def gate_files() -> list[Path]:
    return [
        path
        for path in project_files()
        if path.suffix == ".py" and path.parts[0] == "tests" and path != GUARDS and path.parts[1] not in LANE_FOLDERS
    ]


def _is_lane_mark(node: ast.expr) -> bool:
    """`pytest.mark.slow`, or a call or a list of such."""
    if isinstance(node, ast.Call):
        return _is_lane_mark(node.func)
    if isinstance(node, ast.List | ast.Tuple):
        return any(map(_is_lane_mark, node.elts))
    return isinstance(node, ast.Attribute) and node.attr in LANES


def _of_a_lane(module: ast.Module) -> bool:
    return any(
        isinstance(node, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == "pytestmark" for target in node.targets)
        and _is_lane_mark(node.value)
        for node in module.body
    )


def _is_of_a_lane(node: ast.AST) -> bool:
    """A function or a class that a long lane runs."""
    defined = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    return defined and any(map(_is_lane_mark, node.decorator_list))


def _gate_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """What lies below a node, but for what a long lane runs."""
    for child in ast.iter_child_nodes(node):
        if not _is_of_a_lane(child):
            yield child
            yield from _gate_nodes(child)


def _reads_clock(node: ast.AST, readings: set[str]) -> bool:
    for part in ast.walk(node):
        if isinstance(part, ast.Name | ast.Attribute) and ast.unparse(part) in readings:
            return True
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute | ast.Name):
            called = part.func.attr if isinstance(part.func, ast.Attribute) else part.func.id
            if called in CLOCKS or (called == "time" and "loop" in ast.unparse(part.func)):
                return True
    return False


def _constants(module: ast.Module) -> dict[str, float]:
    return {
        target.id: float(node.value.value)
        for node in module.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(node.value.value, int | float)
    }


def _slept_s(call: ast.Call, constants: dict[str, float]) -> float:
    """How long at most, as far as the source tells."""
    numbers = [0.0]
    for part in (inner for argument in call.args[:1] for inner in ast.walk(argument)):
        if isinstance(part, ast.Constant) and isinstance(part.value, int | float):
            numbers.append(float(part.value))
        elif isinstance(part, ast.Name) and part.id in constants:
            numbers.append(constants[part.id])
    return max(numbers)


def faults_of(source: str, name: str = "source") -> list[str]:
    module = ast.parse(source)
    if _of_a_lane(module):
        return []
    constants, found = _constants(module), []
    for scope in _scopes(module):
        readings: set[str] = set()
        for node in scope:
            if isinstance(node, ast.Assign) and _reads_clock(node.value, readings):
                readings.update(ast.unparse(part) for target in node.targets for part in _names(target))
            if isinstance(node, ast.Compare) and _reads_clock(node, readings):
                found.append(f"{name}:{node.lineno} compares a clock's reading: {ast.unparse(node)}")
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "sleep":
                slept_s = _slept_s(node, constants)
                if slept_s > SLEEP_S_MAX:
                    found.append(f"{name}:{node.lineno} sleeps {slept_s:g} s")
    return found


def _scopes(module: ast.Module) -> Iterator[list[ast.AST]]:
    """The nodes of each class and function of the module, and of what is left, in the order of the source."""
    left = []
    for child in ast.iter_child_nodes(module):
        nodes = [child, *_gate_nodes(child)] if not _is_of_a_lane(child) else []
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield nodes
        else:
            left += nodes
    yield left


def _names(target: ast.expr) -> Iterator[ast.expr]:
    if isinstance(target, ast.Tuple | ast.List):
        for part in target.elts:
            yield from _names(part)
    else:
        yield target


def test_no_test_of_the_gate_depends_on_the_speed_of_the_machine() -> None:
    assert [fault for path in gate_files() for fault in faults_of((ROOT / path).read_text(), str(path))] == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("def test():\n    began = time.monotonic()\n    work()\n    assert time.monotonic() - began < 1", 1),
        ("def test():\n    began, x = perf_counter(), 1\n    took = perf_counter() - began\n    assert took < 1", 1),
        ("class A:\n    def test(self):\n        self.at = loop.time()\n        assert 1 < self.at", 1),
        ("async def test():\n    await asyncio.sleep(0.06)", 1),
        ("WAIT_S = 2\ndef test():\n    time.sleep(WAIT_S / 10)", 1),
        ("def test():\n    time.sleep(0.05)\n    assert time.time() > 0", 0),
        ("@pytest.mark.slow\ndef test():\n    time.sleep(9)", 0),
        ("pytestmark = [pytest.mark.chaos]\ndef test():\n    time.sleep(9)", 0),
    ],
)
def test_clock_comparisons_and_long_sleeps_are_found(source: str, count: int) -> None:
    assert len(faults_of(source)) == count


def test_every_lane_is_left_out_of_the_gate_and_known_to_those_who_run_it() -> None:
    said = [(ROOT / name).read_text() for name in ("pyproject.toml", ".ci/long", ".github/CONTRIBUTING.md")]
    for lane in LANES:
        assert f"not {lane}" in said[0]
        assert f'"{lane}: ' in said[0]
        assert f"[{lane}]=" in said[1]
        assert f" {lane} " in said[2]
