import numpy as np
import numpy.typing as npt

FEATURE_NAMES: tuple[str, ...]

class CandidateTable:
    def __init__(
        self,
        embeddings: npt.NDArray[np.float32],
        popularity: npt.NDArray[np.float32],
        popularity_recent: npt.NDArray[np.float32],
        capacity: int = 2048,
    ) -> None: ...
    def begin(self) -> None: ...
    def add(
        self,
        items: npt.NDArray[np.int32],
        scores: npt.NDArray[np.float32],
        column: int,
        only_known: bool = False,
    ) -> int: ...
    def features(
        self, context: npt.NDArray[np.float32], session: npt.NDArray[np.int32]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]: ...

def linear(features: npt.NDArray[np.float32], weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]: ...
def top_k(items: npt.NDArray[np.int32], scores: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.int32]: ...
