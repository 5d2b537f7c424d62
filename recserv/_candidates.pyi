import numpy as np
import numpy.typing as npt

class _Lists:
    def top(
        self,
        context: npt.NDArray[np.int32],
        weights: npt.NDArray[np.float32],
        allowed: npt.NDArray[np.uint8],
        k: int,
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]: ...
    def score(
        self, context: npt.NDArray[np.int32], weights: npt.NDArray[np.float32], wanted: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.float32]: ...

class Covisitation(_Lists):
    def __init__(
        self,
        offsets: npt.NDArray[np.int64],
        neighbours: npt.NDArray[np.int32],
        strengths: npt.NDArray[np.float32],
    ) -> None: ...
    def strongest(
        self, items: npt.NDArray[np.int32], context: npt.NDArray[np.int32], weights: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.int32]: ...

class SessionKnn(_Lists):
    def __init__(
        self,
        item_offsets: npt.NDArray[np.int64],
        item_sessions: npt.NDArray[np.int32],
        session_offsets: npt.NDArray[np.int64],
        session_items: npt.NDArray[np.int32],
        session_age: npt.NDArray[np.float32],
        idf: npt.NDArray[np.float32],
        *,
        neighbours: int = 200,
        sessions_per_item: int = 500,
        age_half_life: float = 0.0,
        distance_decay: float = 0.25,
        idf_power: float = 1.0,
        reach: int = 16,
    ) -> None: ...
