"""Penalties on the number of false-positive voxels, weighted by anatomy."""

from __future__ import annotations

import math

from keras import ops

from segpipe.losses.odds import logit, widen


def voxel_count(z, weight, *, threshold: float, tau: float, delta: float):
    """Differentiable weighted number of voxels above a threshold.

    ``N = Σ_v W · sg[z > z_t − δ] · log2(1 + exp((z − z_t)/τ))`` with z_t the threshold's logit.

    Parameters
    ----------
    z : (B, \\*spatial, K) tensor
        Log-odds of each foreground class.
    weight : (B, \\*spatial, 1) tensor
        W ≥ 0: region weights, 0 on and around the reference.
    threshold : float
        Probability from which a voxel counts; in (0, 1).
    tau : float
        Softness in logits, above 0.
    delta : float
        Width of the gate below the threshold in logits, not negative: far background, each
        voxel almost nothing but there are millions, stays out of the count.

    Returns
    -------
    (B,) float32 tensor
        In voxels; never below the weighted hard count ``Σ W · [z ≥ z_t]``.

    Notes
    -----
    A voxel at the threshold counts 1 (log2 of 2); one far above counts (z − z_t)/(τ ln 2), so
    that confident false positives keep a gradient. Its own; see docs/losses.md.
    """
    z = widen(z)
    z_t = logit(threshold)
    gate = ops.stop_gradient(ops.cast(z > z_t - delta, z.dtype))
    count = ops.cast(weight, z.dtype) * gate * ops.softplus((z - z_t) / tau) / math.log(2.0)
    return ops.sum(count, axis=tuple(range(1, len(z.shape))))


def voxel_count_penalty(z, weight, *, threshold: float, tau: float, delta: float, budget: float):
    """``log1p(N / b)`` of :func:`voxel_count`: the term that training minimises.

    Parameters
    ----------
    z, weight, threshold, tau, delta
        As in :func:`voxel_count`.
    budget : float
        b in voxels, above 0: the count at which the penalty is log 2.

    Returns
    -------
    (B,) float32 tensor
        The gradient's L1 norm with respect to z stays below 1/τ for every weight ≥ 0.
    """
    count = voxel_count(z, weight, threshold=threshold, tau=tau, delta=delta)
    return ops.log1p(count / budget)


def hard_voxel_count(z, weight, *, threshold: float):
    """Weighted number of voxels above the threshold: exact, without any gradient.

    Parameters
    ----------
    z : (B, \\*spatial, K) tensor
        Log-odds of each foreground class.
    weight : (B, \\*spatial, 1) tensor
    threshold : float

    Returns
    -------
    (B,) float32 tensor
        For logging. Minimising it would teach nothing: its gradient is 0 everywhere.
    """
    z = widen(z)
    above = ops.cast(z > logit(threshold), z.dtype) * ops.cast(weight, z.dtype)
    return ops.sum(above, axis=tuple(range(1, len(z.shape))))
