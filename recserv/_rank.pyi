from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
ItemRows = npt.NDArray[np.int32]
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
        categories: npt.NDArray[np.int32],
        neighbour_offsets: npt.NDArray[np.int64],
        neighbours: ItemRows,
        strengths: Floats,
        capacity: int = 2048,
    ) -> None: ...
    def begin(self, allowed: npt.NDArray[np.uint8]) -> None: ...
    def add(self, items: ItemRows, scores: Floats, source: int, score_column: int, rank_column: int) -> None: ...
    def put(self, items: ItemRows, source: int, limit: int = -1) -> None: ...
    def put_categories(
        self,
        items: ItemRows,
        weights: Floats,
        offsets: npt.NDArray[np.int64],
        listed: ItemRows,
        source: int,
        most: int,
        each: int,
    ) -> None: ...
    def features(self, context: Floats, items: ItemRows, session: Floats, events: float) -> tuple[ItemRows, Floats]: ...
    def rank(
        self, scorer: Scorer, context: Floats, items: ItemRows, session: Floats, events: float, k: int
    ) -> tuple[ItemRows, Floats, Floats, Floats, npt.NDArray[np.uint8]]: ...
