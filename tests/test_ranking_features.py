"""The table of features, what is written of it, and the kernels that were compiled with it."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys

import numpy as np
import pytest
from setuptools import Extension

from recserv import ranking_features
from recserv._rank import Scorer, linear_scorer
from recserv.pipeline.scoring import COLD_WEIGHTS, PLAIN_WEIGHTS
from recserv.ranking_features import (
    CONTRIBUTION_NAMES,
    FEATURE_NAMES,
    FEATURES,
    GROUPS,
    NO_GROUP,
    SCALED,
    TABLE,
    column,
)
from tests.ext.test_rank import small
from tests.patience import HANG_GUARD_S
from tests.project_files import ROOT, project_files


def test_names_are_different_and_those_referred_to_are_there() -> None:
    assert len(set(FEATURE_NAMES)) == len(FEATURES)
    assert {feature.group for feature in FEATURES if feature.group} == set(CONTRIBUTION_NAMES)
    assert {feature.log for feature in FEATURES} - {""} <= set(FEATURE_NAMES)
    assert set(PLAIN_WEIGHTS) | set(COLD_WEIGHTS) <= set(FEATURE_NAMES)


def test_columns_are_the_places_in_the_table() -> None:
    assert [column(feature.name) for feature in FEATURES] == list(range(len(FEATURES)))
    assert column("") == -1
    with pytest.raises(ValueError):
        column("no such feature")
    assert GROUPS[column("covisitation_log")] == CONTRIBUTION_NAMES.index("covisitation")
    assert GROUPS[column("session_length")] == NO_GROUP
    assert (column("session_knn"), column("session_knn_log")) in SCALED


def test_the_constants_of_the_kernels_are_written_from_the_table() -> None:
    written = dict(re.findall(r"^    (\w+) = (\d+)$", ranking_features.columns_pxd(), flags=re.MULTILINE))
    assert {name: int(written[name.upper()]) for name in FEATURE_NAMES} == {
        name: number for number, name in enumerate(FEATURE_NAMES)
    }
    assert int(written["FEATURES"]) == len(FEATURES)
    assert int(written["ROW"]) % ranking_features.LANES == 0 <= int(written["ROW"]) - len(FEATURES)
    assert int(written["TABLE"]) == TABLE


def test_kernels_of_another_table_refuse_to_be_imported() -> None:
    program = "from recserv import ranking_features; ranking_features.TABLE += 1; import recserv._rank"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=HANG_GUARD_S, cwd=ROOT, check=False
    )
    assert run.returncode == 1
    assert "ImportError: compiled for another table of features" in run.stderr


def test_a_table_gives_as_many_columns_as_there_are_features() -> None:
    n = 3
    table = small(n)
    table.begin(np.ones(n, np.uint8))
    table.put(np.arange(n, dtype=np.int32), 1)
    nothing = np.zeros(2, np.float32), np.empty(0, np.int32), np.empty((0, 3), np.float32), 0.0
    features = table.features(*nothing)[1]
    assert features.shape == (n, len(FEATURES))
    scorer: Scorer = linear_scorer({"popularity": 1.0})
    assert scorer.scores(features).shape == (n,)
    assert [part.shape for part in table.rank(scorer, *nothing, n)] == [
        (n,),
        (n,),
        (n, len(FEATURES)),
        (n, len(CONTRIBUTION_NAMES)),
        (n,),
    ]


def test_a_source_distribution_has_what_the_kernels_are_compiled_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds what extensions depend on, and setup.py compiles whatever ext/*.pyx there are: without them it would
    build a package without kernels, and not say so.
    """
    compiled: list[Extension] = []
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("Cython.Build.cythonize", lambda extensions, **_: compiled.extend(extensions))
    monkeypatch.setattr("setuptools.setup", lambda **_: None)
    runpy.run_path("setup.py")
    wanted = {str(path) for path in project_files() if path.parts[0] == "ext"} - {"ext/columns.pxd"}
    assert wanted
    assert {path for extension in compiled for path in extension.depends} == wanted
