"""`ranker.json`: what the features of a candidate are worth.

    linear   score = sum of weights[i] x feature names[i]
    mlp      x = (feature - mean) / scale, clipped; score = weights . x + out . relu(hidden^T x + bias)

A feature that the file does not name counts nothing; one that the server does not know is refused when it is served.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import Literal

import msgspec

from recserv.errors import ModelError
from recserv.model.layout import RANKER_FILE

HIDDEN_MAX = 64
FEATURES_MAX = 256

Numbers = tuple[float, ...]


class Ranker(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Content of the file. f names; weights, mean, scale (> 0) [f]; hidden [f][h]; bias, out [h]."""

    kind: Literal["linear", "mlp"]
    names: tuple[str, ...]
    weights: Numbers
    mean: Numbers = ()
    scale: Numbers = ()
    hidden: tuple[Numbers, ...] = ()
    bias: Numbers = ()
    out: Numbers = ()


NO_RANKER = Ranker("linear", (), ())


def encode_ranker(ranker: Ranker) -> bytes:
    return msgspec.json.encode(ranker) + b"\n"


def decode_ranker(data: memoryview | bytes) -> Ranker:
    """Raises ModelError for whatever could not be served."""
    try:
        ranker = msgspec.json.decode(data, type=Ranker)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(RANKER_FILE, f"cannot be decoded: {error}") from error
    count = len(ranker.names)
    if count != len(ranker.weights) or count != len(set(ranker.names)) or count > FEATURES_MAX:
        raise ModelError(RANKER_FILE, "must name every weight once")
    if not all(map(math.isfinite, chain(ranker.weights, ranker.mean, ranker.bias, ranker.out, *ranker.hidden))):
        raise ModelError(RANKER_FILE, "has a number that is not finite")
    if ranker.kind == "mlp":
        _check_mlp(ranker)
    elif ranker.mean or ranker.scale or ranker.hidden or ranker.bias or ranker.out:
        raise ModelError(RANKER_FILE, "a linear ranker has weights only")
    return ranker


def _check_mlp(ranker: Ranker) -> None:
    features, units = len(ranker.names), len(ranker.out)
    if not len(ranker.mean) == len(ranker.scale) == len(ranker.hidden) == features:
        raise ModelError(RANKER_FILE, "must have a mean, a scale and hidden weights for each feature")
    if units > HIDDEN_MAX or len(ranker.bias) != units or any(len(row) != units for row in ranker.hidden):
        raise ModelError(RANKER_FILE, f"must have the same number of hidden units throughout, at most {HIDDEN_MAX}")
    if not all(0 < scale < math.inf for scale in ranker.scale):
        raise ModelError(RANKER_FILE, "has a scale that is not positive and finite")
