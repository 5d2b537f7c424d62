import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
ItemRows = npt.NDArray[np.int32]

class WordMatches:
    size: int
    def __init__(
        self, offsets: npt.NDArray[np.int64], items: ItemRows, size: int, groups: npt.NDArray[np.int32] | None = None
    ) -> None: ...
    def top(
        self, words: npt.NDArray[np.int32], weights: Floats, allowed: npt.NDArray[np.uint8], k: int
    ) -> tuple[ItemRows, Floats]: ...
    def score(self, words: npt.NDArray[np.int32], weights: Floats, wanted: ItemRows) -> Floats: ...
    def holding(self, words: npt.NDArray[np.int32], wanted: ItemRows) -> npt.NDArray[np.uint8]: ...
