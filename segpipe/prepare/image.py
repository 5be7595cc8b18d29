"""One scan, its reference and its regions on the prepared grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from segpipe.classes import IGNORE
from segpipe.data.nifti import MAX_VOXELS
from segpipe.errors import DataError
from segpipe.geometry import (
    GridTransform,
    bounding_box,
    forward,
    grid_transform,
    ras_orientation,
    reorient,
    resample,
)
from segpipe.geometry import crop as crop_box
from segpipe.lesions.components import label_components
from segpipe.prepare.intensity import ChannelIntensities, channel_scaling
from segpipe.prepare.plan import PreparePlan
from segpipe.prepare.profile import PERCENTILES, intensity_profile
from segpipe.volume import Volume, describe_grid, grid_difference_mm

_UNDECLARED = 254


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """A scan on the prepared grid.

    Parameters
    ----------
    array : (X, Y, Z, C) float32 ndarray
        In [0, 1], along R, A, S.
    shift, scale : (C,) float32 ndarray
        ``(array - shift) / scale`` is what the network sees.
    profile : (C, 6) float ndarray
        Of :func:`segpipe.prepare.profile.intensity_profile`, before resampling.
    transform : GridTransform
        The way back to the scan's own grid.
    """

    array: np.ndarray
    shift: np.ndarray
    scale: np.ndarray
    profile: np.ndarray
    transform: GridTransform

    @property
    def normalised(self) -> np.ndarray:
        """What the network sees, (X, Y, Z, C) float32."""
        return (self.array - self.shift) / self.scale


def prepare_volume(
    image: Volume, plan: PreparePlan, *, max_voxels: int = MAX_VOXELS
) -> PreparedImage:
    """Reorient to RAS, crop, scale and resample a scan.

    Intensities are measured on the cropped scan before resampling. The crop box depends on the
    image alone, so a scan without reference is prepared the same way.

    Parameters
    ----------
    image : Volume
        (X, Y, Z, C) intensities, or (X, Y, Z) for one channel.
    plan : PreparePlan
    max_voxels : int
        Of the prepared scan, which a wrong spacing in a header could make as large as it likes.

    Raises
    ------
    DataError
        If the channels are not those of the plan, voxels are not finite, or the prepared scan
        would have more than ``max_voxels``.
    """
    stored = image.array if image.array.ndim == 4 else image.array[..., np.newaxis]
    if stored.shape[3] != len(plan.channels):
        raise DataError(
            "image",
            "other channels than planned",
            expected=f"{len(plan.channels)} ({', '.join(plan.channels)})",
            received=str(stored.shape[3]),
            fix="Give the channels in the order of training.",
        )
    transform = _plan_grid(image, stored, plan, max_voxels)
    array = np.empty((*transform.target_shape, stored.shape[3]), np.float32)
    shift = np.empty(stored.shape[3], np.float32)
    scale = np.empty(stored.shape[3], np.float32)
    profile = np.empty((stored.shape[3], len(PERCENTILES)))
    orders = transform.orders(3)
    for c in range(stored.shape[3]):
        ras = reorient(stored[..., c], transform.axes, transform.flips)
        kept = np.ascontiguousarray(crop_box(ras, transform.box))
        scaling = channel_scaling(kept, plan.normalise, _channel_stats(plan, c))
        shift[c], scale[c] = scaling.shift, scaling.scale
        profile[c] = intensity_profile(kept, scaling)
        unit = resample(scaling.apply(kept), transform.target_shape, orders)
        np.clip(unit, 0.0, 1.0, out=array[..., c])
    return PreparedImage(array, shift, scale, profile, transform)


def lost_lesions(
    classes: np.ndarray, prepared: np.ndarray, transform: GridTransform
) -> tuple[int, int, int]:
    """How many lesions of a reference have no voxel left on the prepared grid.

    The largest share of a voxel decides its label, so what is thinner than a voxel can vanish; and
    what lies outside the box of the scan's voxels that are not 0 is cut off.

    Parameters
    ----------
    classes : (X, Y, Z) uint8 ndarray
        Class indices on the scan's own grid; 255 is ignored.
    prepared : (X', Y', Z') uint8 ndarray
        The same on the prepared grid.
    transform : GridTransform

    Returns
    -------
    thin, outside, lesions : int
        26-connected components of each label: lost by the one and by the other; all of them.
    """
    way = np.linalg.inv(transform.affine) @ np.array(transform.source_affine)
    thin = outside = lesions = 0
    for value in np.unique(classes[(classes > 0) & (classes != IGNORE)]):
        components, count = label_components(classes == value)
        places = np.argwhere(components)
        target = np.rint(places @ way[:3, :3].T + way[:3, 3]).astype(int)
        i, j, k = np.clip(target, 0, np.array(prepared.shape) - 1).T
        kept = np.unique(components[tuple(places.T)][prepared[i, j, k] == value])
        cut = crop_box(reorient(components, transform.axes, transform.flips), transform.box)
        within = np.unique(cut[cut > 0])
        lesions += count
        outside += count - len(within)
        thin += len(np.setdiff1d(within, kept))
    return thin, outside, lesions


def class_indices(
    labels: np.ndarray, values: Mapping[str, int], ignore_label: int | None
) -> np.ndarray:
    """Stored label values as class indices.

    Returns
    -------
    (X, Y, Z) uint8 ndarray
        0 background, 1, 2, … in the order of ``values``, 255 for the ignore label.

    Raises
    ------
    DataError
        If a value is none of these, or there are more than 253 labels.
    """
    if len(values) >= _UNDECLARED:
        raise DataError("labels", "too many", expected="at most 253", received=str(len(values)))
    known = {0: 0, **{value: index for index, value in enumerate(values.values(), start=1)}}
    if ignore_label is not None:
        known[ignore_label] = IGNORE
    low, high = int(labels.min()), int(labels.max())
    if high - low < 1 << 16:
        table = np.full(high - low + 1, _UNDECLARED, np.uint8)
        for value, index in known.items():
            if low <= value <= high:
                table[value - low] = index
        classes = table[labels.astype(np.int64) - low]
    else:
        classes = np.full(labels.shape, _UNDECLARED, np.uint8)
        for value, index in known.items():
            classes[labels == value] = index
    strange = classes == _UNDECLARED
    if strange.any():
        raise DataError(
            "reference",
            "a value that is no declared label",
            expected=f"one of {sorted(known)}",
            received=str(labels[strange].flat[0]),
            fix="Declare it in data.labels or data.ignore_label.",
        )
    return classes


def prepare_regions(
    region_maps: Mapping[str, Volume], image: Volume, transform: GridTransform
) -> np.ndarray:
    """Region maps on the prepared grid, linearly resampled.

    Returns
    -------
    (X, Y, Z, R) uint8 ndarray
        ``round(255 * value)``, in the order of the mapping.

    Raises
    ------
    DataError
        If a map is not on the image's grid or leaves [0, 1].
    """
    out = np.empty((*transform.target_shape, len(region_maps)), np.uint8)
    for index, (name, region) in enumerate(region_maps.items()):
        if grid_difference_mm(region, image) > 0.5 * min(image.spacing_mm):
            raise DataError(
                f"region {name}",
                "not on the image's grid",
                expected=describe_grid(image),
                received=describe_grid(region),
            )
        values = forward(region.array.astype(np.float32, copy=False), transform, 1)
        if not (values.min() >= 0 and values.max() <= 1):
            raise DataError(
                f"region {name}",
                "values outside [0, 1]",
                received=f"{values.min():g} to {values.max():g}",
            )
        out[..., index] = np.rint(values * 255)
    return out


def _plan_grid(
    image: Volume, stored: np.ndarray, plan: PreparePlan, max_voxels: int
) -> GridTransform:
    box = None
    if plan.crop:
        axes, flips = ras_orientation(image.affine)
        box = bounding_box(reorient((stored != 0).any(axis=3), axes, flips))
    transform = grid_transform(image.shape, image.affine, plan.spacing_mm, box)
    voxels = int(np.prod([float(n) for n in transform.target_shape]))
    if voxels > max_voxels:
        raise DataError(
            "image",
            "too large at the planned spacing",
            expected=f"at most {max_voxels:,} voxels (data.max_voxels)",
            received=f"{voxels:,} from {describe_grid(image)} at {plan.spacing_mm} mm",
            fix="Check the spacing in the scan's header.",
        )
    return transform


def _channel_stats(plan: PreparePlan, channel: int) -> ChannelIntensities | None:
    return None if plan.intensities is None else plan.intensities[channel]
