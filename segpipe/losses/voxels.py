"""Penalty on the number of false-positive voxels, weighted by anatomy."""

from __future__ import annotations

from keras import ops

from segpipe.losses.counting import soft_above
from segpipe.losses.odds import logit, widen


def voxel_count(z, weight, *, threshold: float, tau: float, delta: float):
    """Differentiable weighted number of voxels above a threshold.

    ``N = Σ_v W · sg[z > z_t − δ] · log2(1 + exp((z − z_t)/τ))``, the sum of :func:`soft_above`.

    Parameters
    ----------
    z : (B, \\*spatial, K) tensor
        Log-odds of each foreground class.
    weight : (B, \\*spatial, 1) tensor
        W ≥ 0: region weights, 0 on and around the reference.
    threshold, tau, delta : float
        As in :func:`soft_above`.

    Returns
    -------
    (B,) float32 tensor
        In voxels; never below the weighted hard count ``Σ W · [z > z_t]``.
    """
    z = widen(z)
    count = ops.cast(weight, z.dtype) * soft_above(z, threshold=threshold, tau=tau, delta=delta)
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
