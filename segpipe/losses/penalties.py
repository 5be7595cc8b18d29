"""The penalties that segpipe trains with, as functions of a target and logits, and their counts.

The target is the reference, with the region weights behind it if there are any. The pipeline's own
target and its ramps are in :mod:`segpipe.losses.compound`, which works on the same terms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras import ops

from segpipe.losses import components, regions, selection, voxels
from segpipe.losses.odds import check_threshold, log_odds, logit, widen

if TYPE_CHECKING:
    from segpipe.backend.callbacks import Labelling

LABELLINGS = ("graph", "host")


def voxel_count(
    y_true,
    y_pred,
    weight=None,
    *,
    threshold: float = 0.5,
    tau: float = 0.5,
    delta: float = 2.0,
    budget: float = 100.0,
    border: int = 1,
):
    """``log1p(N / b)``, N the soft weighted number of false-positive voxels.

    Parameters
    ----------
    y_true, y_pred, weight, border
        As in :class:`segpipe.losses.VoxelCount`; the weight may also be given by itself,
        (B, \\*spatial, 1).
    threshold, tau, delta, budget
        As in :func:`segpipe.losses.voxels.voxel_count_penalty`.

    Returns
    -------
    (B,) tensor
    """
    reference, weight = _target(y_true, y_pred, weight, "voxel_count")
    outside = ops.cast(ops.logical_not(_spared(reference, border)), weight.dtype)
    return voxels.voxel_count_penalty(
        log_odds(y_pred), weight * outside, threshold=threshold, tau=tau, delta=delta, budget=budget
    )


def region_count(
    y_true,
    y_pred,
    weight=None,
    *,
    threshold: float = 0.5,
    min_voxels: int = 1,
    overlap: float = 0.0,
    cut: float = 0.5,
    border: int = 1,
    labelling: Labelling = "graph",
):
    """``log1p`` of the weighted existence of the false-positive regions.

    Parameters
    ----------
    y_true, y_pred, weight, threshold, min_voxels, overlap, cut, border, labelling
        As in :class:`segpipe.losses.RegionCount`; the weight may also be given by itself,
        (B, \\*spatial, 1).

    Returns
    -------
    (B,) tensor
    """
    existence, _ = _regions(
        y_true, y_pred, weight, threshold, min_voxels, overlap, cut, border, labelling
    )
    return regions.region_count_penalty(existence)


def false_positive_regions(
    y_true,
    y_pred,
    *,
    threshold: float = 0.5,
    min_voxels: int = 1,
    overlap: float = 0.0,
    border: int = 1,
    labelling: Labelling = "graph",
):
    """Hard number of the regions that :func:`region_count` punishes. **Its gradient is 0.**

    Parameters
    ----------
    y_true, y_pred, threshold, min_voxels, overlap, border, labelling
        As in :class:`segpipe.losses.RegionCount`. Those at the border of the array count like
        others.

    Returns
    -------
    (B,) tensor
    """
    return _regions(y_true, y_pred, None, threshold, min_voxels, overlap, 1.0, border, labelling)[1]


def missed_lesions(y_true, y_pred, *, threshold: float = 0.5, labelling: Labelling = "graph"):
    """``log1p`` of how far the missed lesions are from being found.

    Parameters
    ----------
    y_true, y_pred, threshold, labelling
        As in :class:`segpipe.losses.MissedLesions`.

    Returns
    -------
    (B,) tensor
    """
    return regions.missed_penalty(_missed(y_true, y_pred, threshold, labelling)[0])


def missed_lesion_count(y_true, y_pred, *, threshold: float = 0.5, labelling: Labelling = "graph"):
    """Hard number of the lesions that :func:`missed_lesions` punishes. **Its gradient is 0.**

    Parameters
    ----------
    y_true, y_pred, threshold, labelling
        As in :class:`segpipe.losses.MissedLesions`.

    Returns
    -------
    (B,) tensor
    """
    return _missed(y_true, y_pred, threshold, labelling)[1]


def check_settings(name: str, settings: dict[str, Any]) -> None:
    """Refuse settings of a penalty that are out of their range.

    Raises
    ------
    ValueError
        Naming the setting, what was expected and what was received.
    """
    check_threshold(name, settings["threshold"])
    ranges = {
        "tau": ("above 0", lambda value: value > 0),
        "delta": ("from 0", lambda value: value >= 0),
        "budget": ("above 0", lambda value: value > 0),
        "min_voxels": ("from 1", lambda value: value >= 1),
        "overlap": ("in [0, 1)", lambda value: 0 <= value < 1),
        "cut": ("in [0, 1]", lambda value: 0 <= value <= 1),
        "border": ("a whole number from 0", lambda value: value >= 0 and value == int(value)),
        "labelling": (f"one of {', '.join(LABELLINGS)}", lambda value: value in LABELLINGS),
    }
    for setting, value in settings.items():
        expected, holds = ranges.get(setting, ("", lambda _: True))
        if not holds(value):
            raise ValueError(f"{name}: {setting}: expected {expected}; received {value!r}.")


def _regions(y_true, y_pred, weight, threshold, min_voxels, overlap, cut, border, labelling):
    reference, weight = _target(y_true, y_pred, weight, "region_count")
    z = log_odds(y_pred)
    return regions.region_count(
        z,
        components.label(z > logit(threshold), labelling),
        weight,
        _spared(reference, border),
        min_voxels=min_voxels,
        overlap=overlap,
        cut=cut,
    )


def _missed(y_true, y_pred, threshold, labelling):
    reference, _ = _target(y_true, y_pred, None, "missed_lesions")
    z = log_odds(y_pred)
    lesions = components.label(reference > 0.5, labelling)
    return regions.missed_lesions(z, lesions, z > logit(threshold))


def _target(y_true, y_pred, weight, where):
    """(B, *spatial, K) reference of the foreground classes, (B, *spatial, 1) weight."""
    carried = "weight" if weight is None else None
    reference, further = selection.split_target(y_true, y_pred, (), where, carried)
    reference, weight = widen(reference), further.get("weight", weight)
    if weight is None:
        weight = ops.ones_like(reference[..., :1])
    selection.check_shape(weight, y_pred[..., :1], "weight", where)
    return reference if y_pred.shape[-1] == 1 else reference[..., 1:], widen(weight)


def _spared(reference, border):
    """(B, *spatial, 1) bool: the reference of any class, and the box of ``border`` around it."""
    inside = ops.cast(ops.max(reference, axis=-1, keepdims=True) > 0.5, "float32")
    if border:
        inside = ops.max_pool(
            inside, 2 * int(border) + 1, strides=1, padding="same", data_format="channels_last"
        )
    return inside > 0.5
