import numpy as np
import numpy.typing as npt

def ordered_neighbours(
    labels: npt.NDArray[np.uint64], distances: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]: ...
