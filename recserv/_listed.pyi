import numpy as np
import numpy.typing as npt

class ListedNeighbours:
    width: int
    def __init__(self, embeddings: npt.NDArray[np.float32], lists: npt.NDArray[np.int32], items_max: int) -> None: ...
    def nearest(
        self, query: npt.NDArray[np.float32], items: npt.NDArray[np.int32], k: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]] | None: ...
