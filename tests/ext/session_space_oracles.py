"""NumPy twins of the training kernels: slow, plain, in float64."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

_WORD = (1 << 64) - 1


def mask(key: int, event: int, d: int, dropped: int) -> np.ndarray:
    """Which columns of an event stay: 0 or 1, float64 [d]."""
    blocks = -(-d // 8)
    kept = []
    for block in range(blocks):
        x = (key + event * blocks + block + 0x9E3779B97F4A7C15) & _WORD
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _WORD
        x ^= x >> 31
        kept += [float(((x >> (8 * byte)) & 255) >= dropped) for byte in range(8)]
    return np.array(kept[:d]) * 256 / (256 - dropped)


def masks(key, events, d, dropped):
    return np.array([mask(key, event, d, dropped) for event in range(events)]).reshape(events, d)


def encode(vectors, items, weights, segments, key, dropped):
    rows = masks(key, len(items), vectors.shape[1], dropped) * vectors[items] * weights[:, None]
    return np.array([rows[a:b].sum(axis=0) for a, b in pairwise(segments)])


def encode_backward(vectors, items, weights, segments, key, dropped, slopes, slots, slot_count):
    by_event = np.repeat(slopes, np.diff(segments), axis=0) * masks(key, len(items), vectors.shape[1], dropped)
    gradient = np.zeros((slot_count, vectors.shape[1]))
    np.add.at(gradient, slots, by_event * weights[:, None])
    return gradient, (by_event * vectors[items]).sum(axis=1)


class Adam:
    """Kingma & Ba 2015, algorithm 1, on whole rows; rows not named keep everything."""

    def __init__(self, values, beta1=0.9, beta2=0.999, epsilon=1e-8):
        self.values = np.array(values, np.float64)
        self.mean, self.square = np.zeros_like(self.values), np.zeros_like(self.values)
        self.beta1, self.beta2, self.epsilon, self.steps = beta1, beta2, epsilon, 0

    def step(self, rows, gradient, rate):
        self.steps += 1
        self.mean[rows] = self.beta1 * self.mean[rows] + (1 - self.beta1) * gradient
        self.square[rows] = self.beta2 * self.square[rows] + (1 - self.beta2) * gradient**2
        mean = self.mean[rows] / (1 - self.beta1**self.steps)
        square = self.square[rows] / (1 - self.beta2**self.steps)
        self.values[rows] -= rate * mean / (np.sqrt(square) + self.epsilon)
