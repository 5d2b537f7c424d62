"""What a run of `.ci/run` or `.ci/long` came to, on its last lines: `report.py LOGS`.

Reads what `steps.sh` left in the folder LOGS: steps.tsv (name, exit status, seconds of every step), NAME.log and, where
a step ran pytest, its junit file NAME.xml. Prints a table of the steps and the ten slowest tests, then for each test
that failed its id and the line at fault, for each other step that failed the end of its log, and last pytest's own
closing lines. Whatever failed fits into the last LINES_MAX lines. Exit status 1 if a step failed or none ran. Python's
standard library only: it also runs where the installation is what failed.
"""

import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import NamedTuple

LINES_MAX = 60
LINE_CHARS = 200
TAIL_LINES = 15
SLOWEST = 10
CLOSING = re.compile(r"^(=+ )?(\d+ (passed|failed|errors?|skipped|deselected|xfailed|warnings?)|no tests ran)")
FAULT = re.compile(r"^(E  |>)|^\S+\.pyx?:\d+: ")


class Step(NamedTuple):
    name: str
    status: int
    seconds: int


class Suite(NamedTuple):
    """What pytest said of one step. `faults` are blocks of lines, one block for each test that failed."""

    tests: int
    faults: list[list[str]]
    slowest: list[tuple[float, str]]


def read_steps(logs: Path) -> list[Step]:
    rows = (line.split("\t") for line in (logs / "steps.tsv").read_text().splitlines())
    return [Step(name, int(status), int(seconds)) for name, status, seconds in rows]


def read_suite(path: Path) -> Suite | None:
    try:
        cases = list(ET.parse(path).iter("testcase"))
    except (OSError, ET.ParseError):
        return None
    times = [(float(case.get("time", 0)), test_id(case)) for case in cases]
    faults = [fault(case, bad) for case in cases for bad in case if bad.tag in {"failure", "error"}]
    return Suite(len(cases), faults, sorted(times, reverse=True)[:SLOWEST])


def test_id(case: ET.Element) -> str:
    """As pytest takes it: what begins with a capital is a class, the rest is the path of the file."""
    parts = case.get("classname", "").split(".")
    path = "/".join(part for part in parts if not part[:1].isupper())
    return "::".join([f"{path}.py", *(part for part in parts if part[:1].isupper()), case.get("name", "")])


def fault(case: ET.Element, bad: ET.Element) -> list[str]:
    """The id, the line of the test that failed, what it says, and where it stands."""
    lines = [line for line in (bad.text or "").splitlines() if FAULT.match(line)]
    at = [line for line in lines if line.startswith(">")][-1:]
    said = [line for line in lines if line.startswith("E") and line[1:].strip()][:2] or [
        f"E {bad.get('message', '')}".splitlines()[0]
    ]
    where = [line for line in lines if not line.startswith((">", "E"))][-1:]
    return [f"FAILED {test_id(case)}", *at, *said, *where]


def log_tail(path: Path, count: int) -> list[str]:
    if not path.is_file():
        return ["(no log)"]
    return [line for line in path.read_text(errors="replace").splitlines() if line.strip()][-count:]


def closing_line(path: Path) -> str | None:
    if not path.is_file():
        return None
    found = [line for line in path.read_text(errors="replace").splitlines() if CLOSING.match(line)]
    return found[-1] if found else None


def failures(steps: list[Step], suites: dict[str, Suite], logs: Path, lines_max: int) -> list[str]:
    """At most `lines_max` lines on what failed, every failed step with its share of them."""
    failed = [step for step in steps if step.status]
    lines: list[str] = []
    for place, step in enumerate(failed):
        share = (lines_max - len(lines)) // (len(failed) - place)
        faults = suites[step.name].faults if step.name in suites else []
        tail = log_tail(logs / f"{step.name}.log", TAIL_LINES)
        # Without a fault the step ended before pytest did, or it was none of pytest's.
        blocks = faults or [[f"exit status {step.status}", *tail]]
        lines += [
            f"[{step.name}] {line}" if line == block[0] else line for block in fitting(blocks, share) for line in block
        ]
    return lines


def fitting(blocks: list[list[str]], lines_max: int) -> list[list[str]]:
    """Whole blocks first, then the first line of those that are left, then how many are left out."""
    kept: list[list[str]] = []
    room = lines_max
    for place, block in enumerate(blocks):
        after = len(blocks) - place - 1
        if room <= 1 and after:
            return [*kept, [f"... and {after + 1} more, in the logs"]]
        kept.append(block[: max(1, room - min(after, 10) - 1)])
        room -= len(kept[-1])
    return kept


def main(logs: Path) -> int:
    steps = read_steps(logs)
    suites = {step.name: suite for step in steps if (suite := read_suite(logs / f"{step.name}.xml"))}
    print(f"\n{'step':<20} {'tests':>6} {'failed':>6} {'seconds':>8}")
    for step in steps:
        suite = suites.get(step.name)
        tests, failed = (suite.tests, len(suite.faults)) if suite else ("", "")
        said = "FAILED" if step.status else "passed"
        print(f"{step.name:<20} {tests:>6} {failed:>6} {step.seconds:>8}   {said}")
    print(f"{'in all':<34} {sum(step.seconds for step in steps):>8}")
    slowest = sorted((row for suite in suites.values() for row in suite.slowest), reverse=True)[:SLOWEST]
    print("\n".join(["slowest tests:", *(f"{seconds:>7.1f} s {name}" for seconds, name in slowest)] if slowest else []))
    closing = [f"{name}:\n{line}" for name in suites if (line := closing_line(logs / f"{name}.log"))]
    bad = [step.name for step in steps if step.status]
    told = failures(steps, suites, logs, LINES_MAX - 2 * len(closing) - 4)
    verdict = f"FAILED: {' '.join(bad)}" if bad else "every step passed" if steps else "FAILED: no step ran"
    print("\n".join([*(line[:LINE_CHARS] for line in told), f"logs: {logs}", f"== {verdict}", *closing]))
    return 1 if bad or not steps else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
