"""Counts of predicted elements as functions of tensors, one value per sample."""

from __future__ import annotations

import math
from typing import Literal

from keras import ops

from segpipe.losses import selection
from segpipe.losses.odds import logit, odds_of, widen

Form = Literal["straight_through", "soft"]
FORMS: tuple[Form, ...] = ("straight_through", "soft")


def soft_above(z, *, threshold: float, tau: float, delta: float):
    """By how much each element is above a threshold, with a gradient.

    ``sg[z > z_t − δ] · log2(1 + exp((z − z_t)/τ))`` with z_t the threshold's logit.

    Parameters
    ----------
    z : tensor
        Log-odds.
    threshold : float
        Probability in (0, 1).
    tau : float
        Softness in logits, above 0.
    delta : float
        Width of the gate below the threshold in logits, not negative: what lies further below,
        each element almost nothing but there are millions, stays out.

    Returns
    -------
    tensor of the same shape
        1 at the threshold; never less than ``[z > z_t]``. Its gradient stays near 1/(τ ln 2) far
        above the threshold, where that of a sigmoid dies away.

    Notes
    -----
    Its own; see docs/losses.md.
    """
    z_t = logit(threshold)
    gate = ops.stop_gradient(ops.cast(z > z_t - delta, z.dtype))
    return gate * ops.softplus((z - z_t) / tau) / math.log(2.0)


def hard_count(y_pred, weight=None, *, threshold=0.5, fraction=False, from_logits=False):
    """Number of predicted elements above the threshold. **Its gradient is 0 everywhere.**

    ``Σ w · [p > t]``: the naive count, to be measured and never to be trained on.

    Parameters
    ----------
    y_pred : (B, ..., C) tensor
        Probabilities, or a sigmoid's logits.
    weight : (B, ..., 1 or C) tensor, optional
        w ≥ 0; None: 1 everywhere.
    threshold : float
        t in (0, 1).
    fraction : bool
        Divide by Σ w.
    from_logits : bool

    Returns
    -------
    (B,) float32 tensor
        0 where w is 0 everywhere.
    """
    above, weight = _above(y_pred, threshold, from_logits), _weight(y_pred, weight)
    return (selection.mean if fraction else selection.total)(above, weight)


def count_above_threshold(
    y_pred,
    weight=None,
    *,
    threshold: float = 0.5,
    fraction: bool = True,
    form: Form = "straight_through",
    tau: float = 0.5,
    delta: float = 2.0,
    from_logits: bool = False,
):
    """Differentiable number, or share, of predicted elements above a threshold.

    With ``h = [p > t]`` and ``s = sg[z > z_t − δ] · log2(1 + exp((z − z_t)/τ))``, z the log-odds
    of p:

    - ``soft``: ``Σ w·s``;
    - ``straight_through``: ``sg(Σ w·h) + Σ w·s − sg(Σ w·s)``, the hard count's value with the soft
      one's gradient.

    Parameters
    ----------
    y_pred : (B, ..., C) tensor
        Probabilities of a sigmoid or softmax, or a sigmoid's logits.
    weight : (B, ..., 1 or C) tensor, optional
        w ≥ 0; None: 1 everywhere.
    threshold : float
        t in (0, 1).
    fraction : bool
        Divide by Σ w. The soft form can exceed 1, as sure elements count more than 1.
    form : {'straight_through', 'soft'}
    tau : float
        τ > 0, softness in logits.
    delta : float
        δ ≥ 0: elements more than this below z_t count nothing and get no gradient.
    from_logits : bool

    Returns
    -------
    (B,) float32 tensor
        0 where w is 0 everywhere, with gradient 0; straight-through, also where nothing is above
        the threshold.

    Notes
    -----
    Source: the straight-through estimator of Bengio, Léonard, Courville, 2013,
    https://arxiv.org/abs/1308.3432; the surrogate is segpipe's own (docs/losses.md).
    """
    weight = _weight(y_pred, weight)
    z = odds_of(y_pred, from_logits)
    reduce = selection.mean if fraction else selection.total
    soft = reduce(soft_above(z, threshold=threshold, tau=tau, delta=delta), weight)
    if form == "soft":
        return soft
    hard = reduce(_above(y_pred, threshold, from_logits), weight)
    return ops.stop_gradient(hard) + (soft - ops.stop_gradient(soft))  # exactly the hard value


def masked_count(
    y_true,
    y_pred,
    mask=None,
    *,
    threshold: float = 0.5,
    fraction: bool = True,
    form: Form = "straight_through",
    tau: float = 0.5,
    delta: float = 2.0,
    from_logits: bool = False,
):
    """:func:`count_above_threshold` inside a region mask, or weighted by a region-weight map.

    Parameters
    ----------
    y_true : (B, ..., 2C or C + 1) tensor
        ``concatenate([reference, mask])`` along the last axis. The reference is not looked at.
        Ignored where ``mask`` is given.
    y_pred : (B, ..., C) tensor
    mask : (B, ..., 1 or C) tensor, optional
        Not negative: 1 inside and 0 outside, or a weight.
    threshold, fraction, form, tau, delta, from_logits
        As in :func:`count_above_threshold`.

    Returns
    -------
    (B,) float32 tensor
        0 where the mask is empty, with gradient 0. No element outside it gets a gradient.

    Raises
    ------
    ValueError
        If the mask is missing or does not fit.
    """
    if mask is None:
        mask = selection.split_target(y_true, y_pred, ("mask",), "MaskedCount")[1]["mask"]
    selection.check_shape(mask, y_pred, "mask", "MaskedCount")
    return count_above_threshold(
        y_pred,
        mask,
        threshold=threshold,
        fraction=fraction,
        form=form,
        tau=tau,
        delta=delta,
        from_logits=from_logits,
    )


def binary_cross_entropy(y_true, y_pred, *, from_logits: bool = False):
    """Mean over each sample of ``softplus(z) − y·z``, z the log-odds of the prediction.

    Parameters
    ----------
    y_true : (B, ..., C) tensor
        In [0, 1].
    y_pred : (B, ..., C) tensor
    from_logits : bool

    Returns
    -------
    (B,) float32 tensor
    """
    z = odds_of(y_pred, from_logits)
    per_element = ops.softplus(z) - z * ops.cast(y_true, z.dtype)
    return ops.mean(per_element, axis=tuple(range(1, len(z.shape))))


def count_plus_cross_entropy(
    y_true,
    y_pred,
    *,
    threshold: float = 0.5,
    count_weight: float = 1.0,
    bce_weight: float = 1.0,
    fraction: bool = True,
    form: Form = "straight_through",
    tau: float = 0.5,
    delta: float = 2.0,
    from_logits: bool = False,
):
    """``count_weight`` · :func:`count_above_threshold` + ``bce_weight`` · cross-entropy.

    The count pulls every element down, those of the reference too; the cross-entropy has to hold
    them up.

    Parameters
    ----------
    y_true, y_pred : (B, ..., C) tensor
        Reference in [0, 1] and prediction.
    threshold : float
    count_weight, bce_weight : float
        Not negative.
    fraction, form, tau, delta, from_logits
        As in :func:`count_above_threshold`.

    Returns
    -------
    (B,) float32 tensor
        The weighted cross-entropy alone where nothing is above the threshold.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    selection.split_target(y_true, y_pred, (), "CountPlusCrossEntropy")
    count = count_above_threshold(
        y_pred,
        threshold=threshold,
        fraction=fraction,
        form=form,
        tau=tau,
        delta=delta,
        from_logits=from_logits,
    )
    cross_entropy = binary_cross_entropy(y_true, y_pred, from_logits=from_logits)
    return count_weight * count + bce_weight * cross_entropy


def _above(y_pred, threshold, from_logits):
    """1 above the threshold, else 0; compared on the scale that the prediction is given on."""
    y_pred = widen(y_pred)
    limit = logit(threshold) if from_logits else threshold
    return ops.cast(y_pred > limit, y_pred.dtype)


def _weight(y_pred, weight):
    y_pred = widen(y_pred)
    return ops.ones_like(y_pred) if weight is None else ops.cast(weight, y_pred.dtype)
