"""Penalties on whole regions: false-positive ones that were found, lesions that were missed.

Which voxels belong together, what was found and what was missed is decided on detached values;
the gradient flows through one softplus per voxel alone.
"""

from __future__ import annotations

from keras import ops

from segpipe.losses import components
from segpipe.losses.odds import widen

_EXACTLY = 1 + 1e-6  # a share of exactly ``overlap`` is not above it, whatever float32 makes of it


def region_count(z, labels, weight, spared, *, min_voxels: int, overlap: float, cut: float):
    """Weighted existence of the false-positive regions, and how many they are.

    ``Σ_k W_k f_k g_k e_k`` over the components C_k found, with

    - ``f_k`` 1 where a share of at most ``overlap`` of C_k is spared, else 0;
    - ``g_k`` 1 where C_k has ``min_voxels`` or more, else 0; ``cut`` where C_k reaches the border
      of the patch, whatever its size, as that is unknown; with ``cut`` = 1 as if it ended there;
    - ``W_k`` the mean of ``weight`` over C_k;
    - ``e_k = Σ_v sg(p_v / Σ p) · softplus(z_v)`` over the voxels of C_k that are not spared.

    Parameters
    ----------
    z : (B, \\*spatial, K) tensor
        Log-odds of each foreground class; p = σ(z).
    labels : (B, \\*spatial, K) int32 tensor
        Of :func:`segpipe.losses.components.label` for the voxels found, before any masking.
    weight : (B, \\*spatial, 1) tensor
        W = Σ_r w_r R_r ≥ 0, on the reference too.
    spared : (B, \\*spatial, 1) bool tensor
        y⁺: the reference of any class, the band around it, and voxels to be ignored.
    min_voxels : int
        Smallest component that counts.
    overlap : float
        In [0, 1).
    cut : float
        In [0, 1].

    Returns
    -------
    existence : (B,) float32 tensor
        A softplus is no number of regions: 0.69 each at z = 0, 8.0 each at z = 8, for any size.
    count : (B,) float32 tensor
        Hard number of the regions with f_k g_k > 0; no gradient.

    Notes
    -----
    The softplus under the normalised mass keeps a gradient of 1 for a confident region of any
    size, where the mean or maximum probability goes silent. Its own; see docs/losses.md.
    """
    z = widen(z)
    frozen = ops.stop_gradient(z)
    found = ops.cast(labels > 0, z.dtype)
    outside = found * ops.cast(ops.logical_not(spared), z.dtype)
    mass = ops.sigmoid(frozen) * outside
    ids = components.segments(labels)
    size = components.sum_by(ids, found)
    free = components.sum_by(ids, outside)
    counts = (free > 0) & (size - free <= overlap * _EXACTLY * size)
    share = ops.cast(size >= min_voxels, z.dtype)
    if cut < 1.0:
        at_border = components.touched_by_border(ids, labels.shape)
        share = ops.where(at_border, ops.cast(cut, z.dtype), share)
    share = share * ops.cast(counts, z.dtype)
    total_weight = components.sum_by(ids, found * ops.cast(weight, z.dtype))
    whole = ops.where(counts, size * components.sum_by(ids, mass), 1.0)
    coefficient = share * total_weight / whole
    voxels = mass * ops.reshape(ops.take(coefficient, ids), ops.shape(mass))
    existence = _sum(ops.stop_gradient(voxels) * ops.softplus(z))
    number = components.per_sample(ops.cast(share > 0, z.dtype), labels.shape)
    return existence, ops.stop_gradient(number)


def missed_lesions(z, lesions, found):
    """How far the missed lesions are from being found, and how many they are.

    ``Σ_j m_j · mean over lesion j of softplus(−z)``, m_j 1 where no voxel of lesion j is found.

    Parameters
    ----------
    z : (B, \\*spatial, K) tensor
        Log-odds of each foreground class.
    lesions : (B, \\*spatial, K) int32 tensor
        Of :func:`segpipe.losses.components.label` for the reference of each class.
    found : (B, \\*spatial, K) bool tensor
        Voxels found, of each class.

    Returns
    -------
    distance : (B,) float32 tensor
    count : (B,) float32 tensor
        Hard number of lesions missed; no gradient.
    """
    z = widen(z)
    inside = ops.cast(lesions > 0, z.dtype)
    ids = components.segments(lesions)
    size = components.sum_by(ids, inside)
    hits = components.sum_by(ids, inside * ops.cast(found, z.dtype))
    missed = ops.cast((size > 0) & (hits == 0), z.dtype)
    voxels = inside * ops.reshape(ops.take(missed / ops.maximum(size, 1.0), ids), ops.shape(inside))
    distance = _sum(ops.stop_gradient(voxels) * ops.softplus(-z))
    return distance, ops.stop_gradient(components.per_sample(missed, lesions.shape))


def region_count_penalty(existence):
    """``log1p`` of what :func:`region_count` returns.

    The gradient's L1 norm with respect to z stays below 1 for any weights and any number of
    regions, as softplus(z) > σ(z).
    """
    return ops.log1p(existence)


def missed_penalty(distance):
    """``log1p`` of what :func:`missed_lesions` returns; the same bound holds."""
    return ops.log1p(distance)


def _sum(values):
    return ops.sum(values, axis=tuple(range(1, len(values.shape))))
