import numpy as np
import numpy.typing as npt

def weigh(
    kinds: npt.NDArray[np.uint8],
    ages_s: npt.NDArray[np.float32],
    type_weights: npt.NDArray[np.float32],
    half_life_s: float,
    places: npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]: ...
def aggregate(
    items: npt.NDArray[np.int32],
    weights: npt.NDArray[np.float32],
    importance: npt.NDArray[np.float32],
    embeddings: npt.NDArray[np.float32],
    beside: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]: ...
