"""Log-odds: the scale on which every count and penalty works."""

from __future__ import annotations

import math

import keras
from keras import ops

_CLOSEST = 1e-7  # that a probability comes to 0 or 1 before its log-odds end


def logit(probability: float) -> float:
    """log(p / (1 − p)).

    Examples
    --------
    >>> logit(0.5)
    0.0
    """
    return math.log(probability / (1 - probability))


def check_threshold(name: str, threshold: float) -> None:
    """Refuse what is no probability strictly between 0 and 1.

    Raises
    ------
    ValueError
    """
    if not 0 < threshold < 1:
        raise ValueError(f"{name}: threshold: expected a number in (0, 1); received {threshold}.")


def widen(x):
    """At least float32, in which every sum is taken; float64 stays float64."""
    wide = "float64" if keras.backend.standardize_dtype(x.dtype) == "float64" else "float32"
    return ops.cast(x, wide)


def odds_of(prediction, from_logits: bool):
    """Log-odds of every element, whatever the others are.

    Parameters
    ----------
    prediction : tensor
        Probabilities in [0, 1] of a sigmoid or softmax, or a sigmoid's logits.
    from_logits : bool

    Returns
    -------
    tensor of the same shape, float32
        log(p / (1 − p)), for p within 1e-7 of 0 and 1 the value there, with gradient 0; logits
        are returned as they are.
    """
    prediction = widen(prediction)
    if from_logits:
        return prediction
    p = ops.clip(prediction, _CLOSEST, 1.0 - _CLOSEST)
    return ops.log(p) - ops.log1p(-p)


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
    if classes == 2:
        return logits[..., 1:] - logits[..., :1]
    # The others of the likeliest class are summed without it. Of any other class p <= 1/2, so that
    # log p - log(1 - p) loses nothing.
    numbers = ops.arange(classes, dtype="int32")
    likeliest = ops.cast(ops.argmax(logits, axis=-1), "int32")[..., None] == numbers
    others = ops.logsumexp(ops.where(likeliest, -1e30, logits), axis=-1, keepdims=True)
    log_p = logits - ops.logsumexp(logits, axis=-1, keepdims=True)
    log_p = ops.where(likeliest, -1.0, log_p)  # log1p(-1) would make the gradient nan
    odds = ops.where(likeliest, logits - others, log_p - ops.log1p(-ops.exp(log_p)))
    return odds[..., 1:]
