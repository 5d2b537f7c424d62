import numpy as np
import numpy.typing as npt

def diversify(
    items: npt.NDArray[np.int32],
    scores: npt.NDArray[np.float32],
    embeddings: npt.NDArray[np.float32],
    diversity: float,
    k: int,
) -> npt.NDArray[np.int32]: ...
