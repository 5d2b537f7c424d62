"""The file that `recserv eval` takes, and what is known of it.

    FILE: prefix item ids (space-separated, oldest first) TAB target item id, plain or .gz -> Questions
    FILE.json beside it, if `recserv build --holdout` wrote both: from which data it is

The lines of one session stand together: each prefix of a session, or each item of a basket left out in turn. They are
recognised by their contents, because questions about one session are no independent evidence.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from recserv.errors import DatasetError
from recserv.model.data_report import HoldoutReport

Line = tuple[list[str], str]
_EXPECTED = "expected: prefix ids TAB target id"
_NOT_EVENTS = "; of a file of events recserv build --holdout 5% makes one of such lines"


@dataclass(frozen=True)
class Questions:
    """`session` int64 [n]: from 0, rising. `said`: what the file beside it says, None without one; `said_wrongly`:
    there is one, of other content.
    """

    path: Path
    lines: list[Line]
    session: npt.NDArray[np.int64]
    said: HoldoutReport | None = None
    said_wrongly: bool = False

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def sessions(self) -> int:
        return int(self.session[-1]) + 1 if len(self.session) else 0

    def repeats(self) -> npt.NDArray[np.bool_]:
        """Where the target is in the prefix: bool [n]."""
        return np.array([target in prefix for prefix, target in self.lines], bool)


def read_questions(path: Path) -> Questions:
    """Raises DatasetError."""
    lines = list(read_prefixes(path))
    if not lines:
        raise DatasetError(str(path), f"the file has no lines; {_EXPECTED}")
    said, wrongly = _sidecar(path)
    return Questions(path, lines, session_numbers(lines), said, wrongly)


def read_prefixes(path: Path) -> Iterator[Line]:
    """(prefix, target) of each line. Raises DatasetError naming the row."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig") as lines:
            for row, line in enumerate(lines, start=1):
                prefix, tab, target = line.rstrip("\n").partition("\t")
                if not tab or not prefix.split() or not target.strip() or "\t" in target.strip():
                    raise DatasetError(str(path), f"{_EXPECTED}{_hint(line)}", row=row)
                yield prefix.split(), target.strip()
    except FileNotFoundError as error:
        raise DatasetError(str(path), "no such file; recserv build --holdout 5% writes one beside the model") from error
    except UnicodeDecodeError as error:
        raise DatasetError(str(path), f"not text in UTF-8: {_EXPECTED}{_NOT_EVENTS}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(str(path), str(error)) from error


def _hint(line: str) -> str:
    events = "," in line or line.lstrip().startswith("{")
    return _NOT_EVENTS if events and "\t" not in line else ""


def session_numbers(lines: list[Line]) -> npt.NDArray[np.int64]:
    """Which lines are of one session: int64 [n]. Neighbours of which one goes on where the other ends, or that hold
    the same items.
    """
    first = np.ones(len(lines), np.int64)
    for row in range(1, len(lines)):
        first[row] = not _of_one_session(lines[row - 1], lines[row])
    return np.cumsum(first) - 1


def _of_one_session(one: Line, other: Line) -> bool:
    shorter, longer = sorted((one, other), key=lambda line: len(line[0]))
    (prefix, target), (whole, last) = shorter, longer
    if len(prefix) == len(whole):
        return {*prefix, target} == {*whole, last} and prefix != whole
    return whole[: len(prefix)] == prefix and whole[len(prefix)] == target


def _sidecar(path: Path) -> tuple[HoldoutReport | None, bool]:
    beside = path.with_name(path.name + ".json")
    try:
        said = msgspec.json.decode(beside.read_bytes(), type=HoldoutReport)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None, False  # No such file, or one of another tool.
    if hashlib.sha256(path.read_bytes()).hexdigest() != said.sha256:
        return None, True
    return said, False
