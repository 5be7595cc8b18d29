"""Log-odds: the scale on which every count and penalty works."""

from __future__ import annotations

import math

import keras
from keras import ops


def logit(probability: float) -> float:
    """log(p / (1 − p)).

    Examples
    --------
    >>> logit(0.5)
    0.0
    """
    return math.log(probability / (1 - probability))


def widen(x):
    """At least float32, in which every sum is taken; float64 stays float64."""
    wide = "float64" if keras.backend.standardize_dtype(x.dtype) == "float64" else "float32"
    return ops.cast(x, wide)


def log_odds(logits):
    """Log-odds of every foreground class.

    Parameters
    ----------
    logits : (B, \\*spatial, C) tensor
        C = 1: a sigmoid's logits. C > 1: softmax logits, background first.

    Returns
    -------
    (B, \\*spatial, max(1, C − 1)) float32 tensor
        z_c − logsumexp of the others; for C = 1 the logits themselves.
    """
    logits = widen(logits)
    classes = logits.shape[-1]
    if classes == 1:
        return logits
    parts = []
    for c in range(1, classes):
        others = ops.concatenate([logits[..., :c], logits[..., c + 1 :]], axis=-1)
        parts.append(logits[..., c : c + 1] - ops.logsumexp(others, axis=-1, keepdims=True))
    return ops.concatenate(parts, axis=-1)
