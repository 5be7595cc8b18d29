"""What prediction writes for a case: mask, component map, probabilities, and the facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import ndimage

from segpipe.anatomy.scan_brain import shrink
from segpipe.config import OperatingPoint
from segpipe.data.layouts import Case
from segpipe.data.nifti import file_sha256, write_volume
from segpipe.lesions.classes import class_map
from segpipe.lesions.components import (
    component_probabilities,
    component_voxels,
    label_components,
    renumber,
)
from segpipe.lesions.limits import remaining
from segpipe.lesions.places import NOWHERE, component_regions
from segpipe.lesions.shape import describe_components
from segpipe.predict.uncertainty import Uncertainty, component_agreement
from segpipe.volume import Volume

_MIDLINE_STEP_MM = 2.0


@dataclass(frozen=True, eq=False)
class Segmented:
    """A scan's probabilities made into regions at one operating point.

    Parameters
    ----------
    mask : (X, Y, Z) uint8 or int32 ndarray
        Label values of the dataset.
    components : (X, Y, Z) int32 ndarray
        Numbered over all labels, label by label, the largest first within each.
    facts : list of dict
        One per component, as ``predict.json`` has them.
    counts : dict
        Per label: components and volume, kept and removed.
    """

    mask: np.ndarray
    components: np.ndarray
    facts: list[dict[str, Any]]
    counts: dict[str, dict[str, Any]]


def segment(
    probabilities: Volume,
    labels: Mapping[str, int],
    point: OperatingPoint,
    *,
    connectivity: Literal[6, 18, 26],
    regions: Mapping[str, np.ndarray],
    midline_x_mm: float | None,
) -> Segmented:
    """Threshold, label, filter by size, hysteresis and rank, describe.

    Parameters
    ----------
    probabilities : Volume
        (X, Y, Z, K) in the order of ``labels``.
    labels : mapping of str to int
        Label name to stored value.
    point : OperatingPoint
    connectivity : {6, 18, 26}
    regions : mapping of str to (X, Y, Z) float ndarray
    midline_x_mm : float or None
        World coordinate that separates left from right; None: not known, so that no side is told.

    Returns
    -------
    Segmented
    """
    classes = class_map(probabilities.array, point.threshold)
    mask = np.zeros(classes.shape, np.uint8 if max(labels.values()) < 256 else np.int32)
    numbered = np.zeros(classes.shape, np.int32)
    facts: list[dict[str, Any]] = []
    counts: dict[str, dict[str, Any]] = {}
    for index, (name, value) in enumerate(labels.items()):
        found = classes == index + 1
        kept, mean, highest, removed = _components(found, probabilities, index, point, connectivity)
        inside = kept > 0
        mask[inside] = value
        numbered[inside] = kept[inside] + len(facts)
        facts += _describe(
            name, kept, mean, highest, probabilities.affine, regions, midline_x_mm, len(facts)
        )
        volume_ml = np.array([inside.sum(), (found & ~inside).sum()], float)
        volume_ml *= probabilities.voxel_volume_mm3 / 1000
        counts[name] = {
            "components": len(mean),
            "volume_ml": float(volume_ml[0]),
            "removed": removed,
            "removed_volume_ml": float(volume_ml[1]),
        }
        del kept  # a large scan has no room for the components of two labels
    return Segmented(mask, numbered, facts, counts)


def _components(
    found: np.ndarray,
    probabilities: Volume,
    index: int,
    point: OperatingPoint,
    connectivity: Literal[6, 18, 26],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """What is kept, the largest first; its mean and highest probabilities; how many are removed."""
    labels, total = label_components(found, connectivity)
    voxels = component_voxels(labels, total)
    mean, highest = component_probabilities(labels, total, probabilities.array[..., index])
    left = remaining(
        voxels * probabilities.voxel_volume_mm3,
        highest,
        min_size_mm3=point.min_size_mm3,
        core_threshold=point.core_threshold,
        largest_only=point.largest_only,
    )
    order = np.flatnonzero(left)
    order = order[np.argsort(-voxels[order], kind="stable")]
    numbers = np.zeros(total + 1, np.int32)
    numbers[order + 1] = np.arange(1, len(order) + 1)
    return renumber(labels, numbers), mean[order], highest[order], total - len(order)


def with_agreement(
    segmented: Segmented, labels: Mapping[str, int], uncertainty: Uncertainty
) -> Segmented:
    """The same regions; their facts tell how far the members of the ensemble agree on them."""
    classes = [list(labels).index(fact["label"]) + 1 for fact in segmented.facts]
    known = component_agreement(segmented.components, classes, uncertainty)
    facts = [
        {**fact, "probability_std": deviation, "member_share": share}
        for fact, (deviation, share) in zip(segmented.facts, known, strict=True)
    ]
    return replace(segmented, facts=facts)


def case_files(case: str, *, probabilities: bool, uncertainty: bool) -> dict[str, str | None]:
    """Names of a case's files in the predictions folder; None for those that it does not have."""
    maps = ("entropy", "mutual_information")
    return {
        "mask": f"{case}.nii.gz",
        "components": f"components/{case}.nii.gz",
        "probability": f"probabilities/{case}.nii.gz" if probabilities else None,
        **{name: f"uncertainty/{case}_{name}.nii.gz" if uncertainty else None for name in maps},
    }


def painted_map(folder: Path, case: str, label: int | None = None) -> Path:
    """Where an evaluation paints a case.

    Parameters
    ----------
    folder : Path
        Of the evaluation.
    case : str
    label : int, optional
        Value of one of several labels; None: all labels on one map.
    """
    return folder / "maps" / ("" if label is None else f"label-{label}") / f"{case}.nii.gz"


def write_case(
    folder: Path,
    case: Case,
    probabilities: Volume,
    segmented: Segmented,
    *,
    with_probabilities: bool,
    uncertainty: Uncertainty | None = None,
    region_names: tuple[str, ...],
    registration: dict[str, Any] | None,
    flags: tuple[str, ...],
    seconds: float,
) -> dict[str, Any]:
    """Write a case's files, the mask last; returns its entry for ``predict.json``."""
    channels = [
        {
            "path": str(channel.path.absolute()),
            "index": channel.index,
            "sha256": file_sha256(channel.path),
        }
        for channel in case.channels
    ]
    numbered = segmented.components
    small = numbered.astype(np.uint16) if numbered.max(initial=0) < 65536 else numbered
    arrays = {"components": small}
    if with_probabilities:
        array = probabilities.array
        arrays["probability"] = array[..., 0] if array.shape[-1] == 1 else array
    if uncertainty is not None:
        arrays["entropy"] = uncertainty.entropy
        arrays["mutual_information"] = uncertainty.mutual_information
    files = case_files(
        case.id, probabilities=with_probabilities, uncertainty=uncertainty is not None
    )
    for name, array in {**arrays, "mask": segmented.mask}.items():
        write_volume(folder / str(files[name]), probabilities.with_array(array))
    return {
        "case": case.id,
        "status": "predicted",
        "channels": channels,
        "files": files,
        "counts": segmented.counts,
        "components": segmented.facts,
        "regions": _burden(segmented.facts, region_names),
        "registration": registration,
        "flags": list(flags),
        "seconds": round(seconds, 2),
        "error": None,
    }


def midline_x_mm(image: Volume) -> float | None:
    """World x of the middle of the head, to tell left from right; noise of the air has no say.

    The centroid of the largest connected part above Otsu's threshold, after smoothing and opening.
    Exact only for what is symmetric, such as heads and brains; components within 5 mm of it are
    called midline.

    Parameters
    ----------
    image : Volume
        (X, Y, Z) or (X, Y, Z, C), of which the first channel is looked at.

    Returns
    -------
    float or None
        None where nothing stands out, or where it is cut off: more than half of its largest
        sagittal slice lies in the first or last one.
    """
    from skimage.filters import threshold_otsu

    array = image.array if image.array.ndim == 3 else image.array[..., 0]
    small = shrink(image.with_array(array), _MIDLINE_STEP_MM)
    sigma = [min(_MIDLINE_STEP_MM / edge, 1.0) for edge in small.spacing_mm]
    smooth = ndimage.gaussian_filter(small.array, sigma)
    smooth = np.minimum(smooth, np.percentile(smooth, 99))  # bright spots are no class of their own
    inside = smooth > threshold_otsu(smooth.ravel())  # three slices are no colours
    labels, count = label_components(ndimage.binary_opening(inside))
    if count == 0:
        return None
    head = np.argwhere(labels == 1 + component_voxels(labels, count).argmax())
    lateral = int(np.argmax(np.abs(small.affine[0, :3]) / small.spacing_mm))
    areas = np.bincount(head[:, lateral], minlength=small.shape[lateral])
    if max(areas[0], areas[-1]) > areas.max() / 2:
        return None
    return float(small.affine[0, :3] @ head.mean(axis=0) + small.affine[0, 3])


def _describe(name, labels, mean, highest, affine, regions, midline, offset):
    if not len(mean):
        return []
    places = component_regions(labels, len(mean), regions)
    shapes = describe_components(labels, affine, midline_x_mm=midline)
    return [
        {
            "id": shape.id + offset,
            "label": name,
            "region": places[shape.id - 1] if regions else None,
            "side": shape.side,
            "volume_ml": shape.volume_ml,
            "longest_diameter_mm": shape.longest_diameter_mm,
            "mean_probability": float(mean[shape.id - 1]),
            "max_probability": float(highest[shape.id - 1]),
            "probability_std": None,
            "member_share": None,
            "centroid_voxel": [round(c, 2) for c in shape.centroid_voxel],
            "touches_border": shape.touches_border,
        }
        for shape in shapes
    ]


def _burden(facts: list[dict[str, Any]], region_names: tuple[str, ...]) -> dict[str, Any]:
    if not region_names:
        return {}
    burden = {name: {"components": 0, "volume_ml": 0.0} for name in (*region_names, NOWHERE)}
    for fact in facts:
        burden[fact["region"]]["components"] += 1
        burden[fact["region"]]["volume_ml"] += fact["volume_ml"]
    return burden
