from typing import TypeVar

import numpy as np
import numpy.typing as npt

_Real = TypeVar("_Real", np.float32, np.float64)

def mask_width(d: int) -> int: ...
def encode(
    vectors: npt.NDArray[_Real],
    items: npt.NDArray[np.int32],
    weights: npt.NDArray[_Real],
    segments: npt.NDArray[np.int64],
    key: int,
    dropped: int,
    mask: npt.NDArray[_Real],
    out: npt.NDArray[_Real],
) -> None: ...
def encode_backward(
    vectors: npt.NDArray[_Real],
    items: npt.NDArray[np.int32],
    weights: npt.NDArray[_Real],
    segments: npt.NDArray[np.int64],
    key: int,
    dropped: int,
    mask: npt.NDArray[_Real],
    slopes: npt.NDArray[_Real],
    slots: npt.NDArray[np.int32],
    gradient: npt.NDArray[_Real],
    weight_gradient: npt.NDArray[_Real],
) -> None: ...
def assign_slots(
    items: npt.NDArray[np.int32],
    slot_of: npt.NDArray[np.int32],
    rows: npt.NDArray[np.int32],
    count: int,
    slots: npt.NDArray[np.int32],
) -> int: ...
def scatter_add(
    target: npt.NDArray[_Real], rows: npt.NDArray[np.int32], values: npt.NDArray[_Real], scale: float
) -> None: ...
def adam_rows(
    values: npt.NDArray[_Real],
    mean: npt.NDArray[_Real],
    square: npt.NDArray[_Real],
    rows: npt.NDArray[np.int32],
    gradient: npt.NDArray[_Real],
    rate: float,
    step: int,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> None: ...
