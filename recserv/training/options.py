"""The options of a build."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from recserv.errors import UsageError
from recserv.model.manifest import DIMENSIONS_MAX
from recserv.model.writer import check_target
from recserv.training.catalog import CATALOG_COLUMNS
from recserv.training.dataset import EVENT_COLUMNS, check_mapping
from recserv.training.files import expand, kind_of
from recserv.training.mapping_tables import TableMapping
from recserv.training.set_aside import Newest

EPOCHS_MAX = 100
EXAMPLES_MAX = 1_000_000


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """As on the command line. `columns` gives a file's column name by ours, for events and catalogue alike, over what
    `table` says of the events and, for a catalogue whose `catalog_table` does not say otherwise, over that.
    """

    events: tuple[str, ...]
    out: str
    catalog: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    table: TableMapping = field(default_factory=TableMapping)
    catalog_table: TableMapping = field(default_factory=TableMapping)
    default_event_type: str | None = None
    allow_unknown_items: bool = False
    """Build even if most events are of items that the catalogue does not have."""
    skip_bad_rows: bool = False
    ties: Literal["try", "file", "none"] = "try"
    """The order of a session's lines that share one time: that of the file, none, or whichever a trial finds better."""
    holdout: Newest | None = None
    """Sessions to keep from the model."""
    holdout_to: str = ""
    """Where the questions of those go; empty: beside the model."""
    seed: int = 0
    dimensions: int = 64
    epochs: float = 5.0
    """Of learning item vectors; may be a fraction. 0: spectral vectors alone."""
    rank_examples: int = 50_000
    """Prefixes of the newest sessions that the ranker learns from; 0: fixed weights instead."""

    def holdout_path(self) -> Path:
        if self.holdout_to:
            return Path(self.holdout_to)
        out = Path(self.out)
        if out.name in ("", ".."):
            out = Path(os.path.realpath(out))  # "." and the like have no name to begin with.
        return out.with_name(f"{out.name}.holdout.tsv")

    def check(self) -> None:
        """Raises UsageError."""
        if not self.events:
            raise UsageError("--events: at least one file is needed")
        if not 2 <= self.dimensions <= DIMENSIONS_MAX:
            raise UsageError(f"dimensions {self.dimensions}: must be 2..{DIMENSIONS_MAX}")
        if not 0 <= self.epochs <= EPOCHS_MAX:
            raise UsageError(f"--epochs {self.epochs}: must be 0..{EPOCHS_MAX}")
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed}: must not be negative")
        if not 0 <= self.rank_examples <= EXAMPLES_MAX:
            raise UsageError(f"--rank-examples {self.rank_examples}: must be 0..{EXAMPLES_MAX}")
        check_mapping(self.columns, tuple(dict.fromkeys((*EVENT_COLUMNS, *CATALOG_COLUMNS))))
        check_target(Path(self.out))
        if self.holdout_to and self.holdout is None:
            raise UsageError("--holdout-to needs --holdout, which says how many sessions, such as 5%")
        if self.holdout is not None:
            self._check_holdout_path()
        for path in expand([*self.events, *([] if self.catalog is None else [self.catalog])]):
            kind_of(path)  # Before the first of them is read, which may take minutes.

    def _check_holdout_path(self) -> None:
        path = self.holdout_path()
        if path.is_dir():
            raise UsageError(f"--holdout-to {path}: a folder; the name of a file is needed")
        real = Path(os.path.realpath(path))
        # A new model takes the place of the old one with all that lies in it.
        if Path(os.path.realpath(self.out)) in real.parents:
            raise UsageError(f"--holdout-to {path}: must not be inside the model, {self.out}")
        if not real.parent.is_dir():
            raise UsageError(f"--holdout-to {path}: no such folder")
        given = expand([*self.events, *([] if self.catalog is None else [self.catalog])])
        if real in [Path(os.path.realpath(one)) for one in given]:
            raise UsageError(f"--holdout-to {path}: one of the files that the model is built from")
