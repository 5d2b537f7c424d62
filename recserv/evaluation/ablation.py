"""What each part of the pipeline is worth: one source alone, all but one, or fixed weights in place of the ranker.

The ranker is not retrained on what is left, so a figure "without" says what the served model would lose.
"""

from __future__ import annotations

import msgspec

from recserv._rank import linear_scorer
from recserv.pipeline import sources as pipeline_sources
from recserv.pipeline.engine import Engine
from recserv.pipeline.scoring import PLAIN_WEIGHTS
from recserv.pipeline.settings import PipelineSettings

_WIDTH = "_candidates"
ALONE = {kind.setting.removesuffix(_WIDTH): {kind.alone: 1.0} for kind in pipeline_sources.SOURCES if kind.alone}
SOURCES = tuple(ALONE)
ALONE_CANDIDATES = 60


class Ablation(msgspec.Struct, frozen=True, kw_only=True):
    """`only`, `without`: one of SOURCES, or "" for none. `graph`: every search in the graph, none in lists."""

    only: str = ""
    without: str = ""
    fixed_weights: bool = False
    graph: bool = False

    @property
    def label(self) -> str:
        """What is left of the pipeline, in words; "" for all of it."""
        parts = (
            f"{self.only} alone" * bool(self.only),
            f"without {self.without}" * bool(self.without),
            "fixed weights" * self.fixed_weights,
            "every search in the graph" * self.graph,
        )
        return ", ".join(part for part in parts if part)

    def apply(self, engine: Engine) -> PipelineSettings:
        """Changes the engine, which is this evaluation's own; returns the settings to serve it with."""
        settings = PipelineSettings(search_near=not self.graph)
        if self.fixed_weights:
            engine.scorer = linear_scorer(PLAIN_WEIGHTS)
        if self.only:
            engine.scorer = linear_scorer(ALONE[self.only])
            widths = {_width(name): ALONE_CANDIDATES if name == self.only else 0 for name in SOURCES}
            settings = msgspec.structs.replace(settings, **widths)
        if self.without:
            settings = msgspec.structs.replace(settings, **{_width(self.without): 0})
        return settings


def _width(source: str) -> str:
    return source + _WIDTH
