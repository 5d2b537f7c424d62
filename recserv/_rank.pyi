from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int32]
Numbers = Floats | Sequence[float]

class Scorer:
    def __init__(
        self,
        names: Sequence[str],
        mean: Numbers,
        scale: Numbers,
        skip: Numbers,
        hidden: Floats | Sequence[Sequence[float]],
        bias: Numbers,
        out: Numbers,
        limit: float = 6.0,
    ) -> None: ...
    def scores(self, features: Floats) -> Floats: ...

def linear_scorer(weights: Mapping[str, float]) -> Scorer: ...

class CandidateTable:
    capacity: int
    count: int
    def __init__(
        self,
        embeddings: Floats,
        popularity: Floats,
        popularity_recent: Floats,
        importance: Floats,
        categories: Positions,
        neighbour_offsets: npt.NDArray[np.int64],
        neighbours: Positions,
        strengths: Floats,
        capacity: int = 2048,
    ) -> None: ...
    def begin(self, allowed: npt.NDArray[np.uint8]) -> None: ...
    def add(self, items: Positions, scores: Floats, source: int, score_column: int, rank_column: int) -> None: ...
    def put(self, items: Positions, source: int, limit: int = -1) -> None: ...
    def put_categories(
        self,
        items: Positions,
        weights: Floats,
        offsets: npt.NDArray[np.int64],
        listed: Positions,
        source: int,
        most: int,
        each: int,
    ) -> None: ...
    def features(
        self, context: Floats, items: Positions, session: Floats, events: float
    ) -> tuple[Positions, Floats]: ...
    def rank(
        self, scorer: Scorer, context: Floats, items: Positions, session: Floats, events: float, k: int
    ) -> tuple[Positions, Floats, Floats, Floats, npt.NDArray[np.uint8]]: ...
