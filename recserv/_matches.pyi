import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int32]

class WordMatches:
    size: int
    def __init__(
        self, offsets: npt.NDArray[np.int64], items: Positions, size: int, groups: Positions | None = None
    ) -> None: ...
    def top(
        self, words: Positions, weights: Floats, allowed: npt.NDArray[np.uint8], k: int
    ) -> tuple[Positions, Floats]: ...
    def score(self, words: Positions, weights: Floats, wanted: Positions) -> Floats: ...
    def holding(self, words: Positions, wanted: Positions) -> npt.NDArray[np.uint8]: ...
