"""The candidate sources, in the order in which they are asked. See `base` for what one is and how to add one."""

from __future__ import annotations

from functools import cache

from recserv.pipeline.sources.base import REQUESTED, CandidateSource
from recserv.pipeline.sources.context_vector import ContextVector
from recserv.pipeline.sources.covisitation import Covisitation
from recserv.pipeline.sources.popular import Popular, PopularInCategory
from recserv.pipeline.sources.session_knn import SessionKnn
from recserv.ranking_features import contribution
from recserv.types import Source

SOURCES: tuple[type[CandidateSource], ...] = (ContextVector, Covisitation, SessionKnn, PopularInCategory, Popular)
"""If contributions to a score are equal, the first source is credited."""


@cache
def credited(source_mask: int) -> tuple[tuple[int, Source], ...]:
    """The public sources that a row with these bits can be credited to, with their columns of the contributions."""
    return tuple(
        (contribution(name), public)
        for kind in SOURCES
        if source_mask & (kind.bit | REQUESTED * kind.knows_all)
        for name, public in kind.credits
    )
