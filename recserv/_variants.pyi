import numpy as np
import numpy.typing as npt

class Variants:
    def __init__(self, groups: npt.NDArray[np.int32]) -> None: ...
    def first(
        self,
        items: npt.NDArray[np.int32],
        k: int,
        *,
        allowed: npt.NDArray[np.uint8] | None = None,
        taken: npt.NDArray[np.int32] | None = None,
    ) -> npt.NDArray[np.int32]: ...
    def with_siblings(self, items: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]: ...
