import numpy as np
import numpy.typing as npt

def multiply(
    offsets: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int32],
    values: npt.NDArray[np.float32],
    dense: npt.NDArray[np.float32],
    begin: int,
    end: int,
    out: npt.NDArray[np.float32],
) -> None: ...
