"""What a ranker is told of a candidate: the one table that every list of features comes from.

    FEATURES   name, what it speaks for, what stands for its absence; the place in the table is the column
      -> columns.pxd, which setup.py writes for the kernels       IN_SESSION = 13, FEATURES = 24, ROW = 24
      -> FEATURE_NAMES, CONTRIBUTION_NAMES, column(name)          for Python, and for the oracle of the tests
      -> TABLE, a number that stands for those columns             kernels of another table refuse to be imported

To add a feature, three files:

    recserv/ranking_features.py   its row, at the end of FEATURES
    ext/rank.pyx                  where it is computed: `complete`, as row[NAME_IN_CAPITALS]
    tests/ext/oracles.py          the same in NumPy: row["name"]

and compile (`setup.py build_ext --inplace`). A model that was built before goes on as it is: its ranker names its
features and does not name this one. The next build learns what it is worth. A source's own columns need the first file
alone: `CandidateTable.add` fills them (see pipeline/sources/base.py).

The standard library only, and nothing of recserv: setup.py runs this file before there is a package.
"""

from __future__ import annotations

import zlib
from enum import Enum
from typing import NamedTuple

LANES = 8
"""Floats that a kernel reads at once: as in ext/lanes.h, whose number rank.pyx compares with the rows' width."""

CONTRIBUTION_NAMES = ("context_vector", "covisitation", "session_knn", "popular", "trending", "session")
"""What a feature can speak for. The contribution of each to a score decides which source a result is told by."""


class Neutral(Enum):
    """What a feature is set to when a score is asked what it would be without its group."""

    ABSENT = "absent"
    """0: nothing is said of the item."""
    AVERAGE = "average"
    """The mean of what the ranker learned from: every item has some value, so none would be the odd thing."""


class Feature(NamedTuple):
    """`group`: one of CONTRIBUTION_NAMES, None where it says something of the request as a whole. `log`: the feature
    that gets log(1 + value) when this one, a source's score, is scaled by the largest of the request: sums over a
    context of any length are not comparable from one request to the next.
    """

    name: str
    group: str | None
    neutral: Neutral = Neutral.ABSENT
    log: str = ""


FEATURES = (
    Feature("context_cosine", "context_vector", Neutral.AVERAGE),
    Feature("last_item_cosine", "context_vector", Neutral.AVERAGE),
    Feature("search_rank", "context_vector"),
    Feature("covisitation", "covisitation", log="covisitation_log"),
    Feature("covisitation_log", "covisitation"),
    Feature("covisitation_rank", "covisitation"),
    Feature("covisitation_last_item", "covisitation"),
    Feature("session_knn", "session_knn", log="session_knn_log"),
    Feature("session_knn_log", "session_knn"),
    Feature("session_knn_rank", "session_knn"),
    Feature("popularity", "popular", Neutral.AVERAGE),
    Feature("popularity_recent", "trending", Neutral.AVERAGE),
    Feature("popularity_trend", "trending", Neutral.AVERAGE),
    Feature("in_session", "session"),
    Feature("session_count", "session"),
    Feature("session_recency", "session"),
    Feature("session_last", "session"),
    Feature("session_weight", "session"),
    Feature("in_session_unique", "session"),
    Feature("session_length", None),
    Feature("session_unique", None),
    Feature("category_last_item", "context_vector"),
    Feature("category_share", "context_vector"),
    Feature("importance", "context_vector", Neutral.AVERAGE),
)

FEATURE_NAMES = tuple(feature.name for feature in FEATURES)

SESSION_COLUMNS = ("count", "after", "weight")
"""Of the session matrix: how often the item occurs, events after its last occurrence, its largest type weight."""

NO_COLUMN = -1
NO_GROUP = len(CONTRIBUTION_NAMES)


def column(name: str) -> int:
    """Of the feature table; NO_COLUMN for "". Raises ValueError for a name that is not in it."""
    return FEATURE_NAMES.index(name) if name else NO_COLUMN


def contribution(name: str) -> int:
    """Column of the contributions. Raises ValueError for a name that is not among them."""
    return CONTRIBUTION_NAMES.index(name)


GROUPS = tuple(NO_GROUP if feature.group is None else contribution(feature.group) for feature in FEATURES)
"""Column of the contributions that each feature adds to; NO_GROUP for none."""

SCALED = tuple((column(feature.name), column(feature.log)) for feature in FEATURES if feature.log)
"""Columns of the sources' scores, each with that of its logarithm."""


def _enum(entries: list[tuple[str, int]]) -> str:
    return "cdef enum:\n" + "".join(f"    {name} = {value}\n" for name, value in entries)


def _columns() -> str:
    width = -(-len(FEATURES) // LANES) * LANES
    features = [(name.upper(), number) for number, name in enumerate(FEATURE_NAMES)]
    session = [(name.upper(), number) for number, name in enumerate(SESSION_COLUMNS)]
    parts = (
        [*features, ("FEATURES", len(FEATURES)), ("ROW", width)],
        [("SCALED", len(SCALED)), ("GROUPS", len(CONTRIBUTION_NAMES)), ("NO_GROUP", NO_GROUP)],
        [*session, ("SESSION_WIDTH", len(SESSION_COLUMNS))],
    )
    return "\n".join(_enum(part) for part in parts)


# A C enumeration holds 31 bits on every compiler.
TABLE = zlib.crc32(_columns().encode()) & 0x7FFFFFFF
"""Another number for every other order of columns."""


def columns_pxd() -> str:
    """The text of ext/columns.pxd: the columns as constants. ROW is the width of a row, FEATURES in whole lanes."""
    opening = '"""Written by setup.py from recserv/ranking_features.py, which says what each of these is."""'
    return f"{opening}\n\n{_columns()}\n{_enum([('TABLE', TABLE)])}"
