"""The published counting rules, written out slowly: one loop per lesion.

Judges of segpipe's own code, which they share nothing with: numpy and scipy alone, so that they
run in any environment. Each says what its source says in the plainest way, whatever the time it
takes; the sources are named in docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_bipartite_matching

HD95_PENALTY_MM = 374.0

Hausdorff = Callable[[np.ndarray, np.ndarray], float]
"""95 % Hausdorff distance in mm between two masks, neither of them empty."""

Figures = dict[str, int | float | None]


def label(mask: np.ndarray, connectivity: int) -> tuple[np.ndarray, int]:
    """Components 1..N of a mask, and N."""
    steps = {6: 1, 18: 2, 26: 3}[connectivity]
    labels, count = ndimage.label(mask, ndimage.generate_binary_structure(3, steps))
    return labels, int(count)


def at_least_a_voxel(reference: np.ndarray, prediction: np.ndarray) -> Figures:
    """Rule ``any`` of ISLES'22, and the F1 that the WMH challenge forms of the same counts."""
    lesions, n_lesions = label(reference, 26)
    regions, n_regions = label(prediction, 26)
    detected = sum(bool(prediction[lesions == i].any()) for i in range(1, n_lesions + 1))
    found = sum(bool(reference[regions == j].any()) for j in range(1, n_regions + 1))
    missed, wrong = n_lesions - detected, n_regions - found
    recall, precision = _ratio(detected, n_lesions), _ratio(found, n_regions)
    return {
        "reference_lesions": n_lesions,
        "predicted_regions": n_regions,
        "detected_lesions": detected,
        "missed_lesions": missed,
        "true_positive_regions": found,
        "false_positive_regions": wrong,
        "lesion_sensitivity": recall,
        "lesion_precision": precision,
        "lesion_f1": _ratio(detected, detected + (wrong + missed) / 2) if n_lesions else None,
        "wmh_f1": _harmonic(recall, precision),
    }


def autopet(reference: np.ndarray, prediction: np.ndarray, voxel_ml: float) -> Figures:
    """Volume of the 18-connected components that lie wholly outside the other mask."""
    wrong, wrong_voxels = _untouched(prediction, reference)
    missed, missed_voxels = _untouched(reference, prediction)
    return {
        "missed_lesions": missed,
        "false_positive_regions": wrong,
        "missed_volume_ml": missed_voxels * voxel_ml,
        "false_positive_volume_ml": wrong_voxels * voxel_ml,
    }


def _untouched(mask: np.ndarray, other: np.ndarray) -> tuple[int, int]:
    components, count = label(mask, 18)
    sizes = [
        int((components == i).sum())
        for i in range(1, count + 1)
        if not other[components == i].any()
    ]
    return len(sizes), sum(sizes)


def panoptic(reference: np.ndarray, prediction: np.ndarray, minimum: float = 0.5) -> Figures:
    """Pairs one to one by intersection over union, the best first (Kirillov et al. 2019)."""
    lesions, n_lesions = label(reference, 26)
    regions, n_regions = label(prediction, 26)
    ratios = []
    for i in range(1, n_lesions + 1):
        for j in np.unique(regions[(lesions == i) & prediction]):
            common = ((lesions == i) & (regions == j)).sum()
            ratios.append((common / ((lesions == i) | (regions == j)).sum(), i, int(j)))
    taken_lesions, taken_regions, qualities = set(), set(), []
    for ratio, i, j in sorted(ratios, key=lambda r: (-r[0], r[1], r[2])):
        if ratio >= minimum and i not in taken_lesions and j not in taken_regions:
            taken_lesions.add(i)
            taken_regions.add(j)
            qualities.append(ratio)
    found, everything = len(qualities), (n_lesions + n_regions) / 2
    return {
        "detected_lesions": found,
        "missed_lesions": n_lesions - found,
        "false_positive_regions": n_regions - found,
        "segmentation_quality": _ratio(sum(qualities), found),
        "recognition_quality": _ratio(found, everything),
        "panoptic_quality": _ratio(sum(qualities), everything),
    }


def most_pairs(reference: np.ndarray, prediction: np.ndarray, kind: str, minimum: float) -> Figures:
    """Largest number of one-to-one pairs that reach a ratio; ``kind`` is ``iou`` or ``overlap``."""
    lesions, n_lesions = label(reference, 26)
    regions, n_regions = label(prediction, 26)
    pairs = []
    for i in range(1, n_lesions + 1):
        for j in np.unique(regions[(lesions == i) & prediction]):
            common = int(((lesions == i) & (regions == j)).sum())
            whole = int((regions == j).sum())
            if kind == "iou":
                whole += int((lesions == i).sum()) - common
            if common * 1000 >= round(minimum * 1000) * whole:  # whole numbers: no rounding
                pairs.append((i, int(j)))
    found = 0
    if pairs:
        rows, columns = zip(*pairs, strict=True)
        shape = (n_lesions + 1, n_regions + 1)
        graph = coo_array((np.ones(len(pairs)), (rows, columns)), shape=shape).tocsr()
        found = int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum())
    return {
        "detected_lesions": found,
        "missed_lesions": n_lesions - found,
        "true_positive_regions": found,
        "false_positive_regions": n_regions - found,
    }


def brats23(
    reference: np.ndarray,
    prediction: np.ndarray,
    voxel_mm3: float,
    hausdorff: Hausdorff,
    iterations: int,
    limit_mm3: float,
) -> Figures:
    """Lesions merged by dilation; predicted components pooled for each of them."""
    cross = ndimage.generate_binary_structure(3, 2)
    grown = ndimage.binary_dilation(reference, cross, iterations=iterations)
    groups, n_groups = label(grown, 26)
    regions, n_regions = label(prediction, 26)
    dice, distance, touched = [], [], set()
    detected = 0
    for group in range(1, n_groups + 1):
        lesion = (groups == group) & reference
        around = ndimage.binary_dilation(lesion, cross, iterations=iterations)
        near = np.setdiff1d(regions[around], [0])
        touched.update(near.tolist())
        if lesion.sum() * voxel_mm3 <= limit_mm3:
            continue
        pooled = np.isin(regions, near)
        detected += len(near) > 0
        dice.append(2 * (pooled & lesion).sum() / (pooled.sum() + lesion.sum()))
        distance.append(hausdorff(lesion, pooled) if len(near) else HD95_PENALTY_MM)
    wrong = n_regions - len(touched)
    return {
        "reference_lesions": len(dice),
        "detected_lesions": detected,
        "missed_lesions": len(dice) - detected,
        "false_positive_regions": wrong,
        "lesionwise_dice": _ratio(sum(dice), len(dice) + wrong),
        "lesionwise_hd95_mm": _ratio(sum(distance) + wrong * HD95_PENALTY_MM, len(dice) + wrong),
    }


def msseg(
    reference: np.ndarray,
    prediction: np.ndarray,
    voxel_mm3: float,
    *,
    limit_mm3: float = 3.0,
    stops_early: bool = False,
) -> Figures:
    """Lesion sensitivity, precision and F1 of the 2016 MS challenge (Commowick et al. 2018).

    With ``stops_early``, a lesion is accepted once as many of its components have been looked at
    as its own side has components, and one more: what the challenge's program does, though the
    article says nothing of it. Where there are lesions and nothing is detected, the program
    divides 0 by 0 for F1; here it is 0, as in segpipe.
    """
    lesions, lesion_voxels = _above(reference, voxel_mm3, limit_mm3)
    regions, region_voxels = _above(prediction, voxel_mm3, limit_mm3)
    detected = _msseg_found(lesions, lesion_voxels, regions, region_voxels, stops_early)
    found = _msseg_found(regions, region_voxels, lesions, lesion_voxels, stops_early)
    sensitivity = _ratio(detected, len(lesion_voxels))
    precision = _ratio(found, len(region_voxels))
    return {
        "reference_lesions": len(lesion_voxels),
        "predicted_regions": len(region_voxels),
        "detected_lesions": detected,
        "missed_lesions": len(lesion_voxels) - detected,
        "true_positive_regions": found,
        "false_positive_regions": len(region_voxels) - found,
        "lesion_sensitivity": sensitivity,
        "lesion_precision": precision,
        "lesion_f1": _harmonic(sensitivity, 0.0 if precision is None else precision),
    }


def _above(mask: np.ndarray, voxel_mm3: float, limit_mm3: float) -> tuple[np.ndarray, list[int]]:
    """The 6-connected components above a size, numbered by falling size, and their voxels."""
    components, count = label(mask, 6)
    sizes = {i: int((components == i).sum()) for i in range(1, count + 1)}
    kept = sorted((i for i in sizes if sizes[i] * voxel_mm3 > limit_mm3), key=lambda i: -sizes[i])
    numbers = np.zeros(count + 1, int)
    numbers[kept] = np.arange(1, len(kept) + 1)
    return numbers[components], [sizes[i] for i in kept]


def _msseg_found(
    lesions: np.ndarray,
    lesion_voxels: Sequence[int],
    regions: np.ndarray,
    region_voxels: Sequence[int],
    stops_early: bool,
) -> int:
    """How many of the lesions the regions found."""
    alpha, beta, gamma = 0.1, 0.7, 0.65
    outside = np.bincount(regions[lesions == 0], minlength=len(region_voxels) + 1)
    found = 0
    for i, size in enumerate(lesion_voxels, start=1):
        common = np.bincount(regions[lesions == i], minlength=len(region_voxels) + 1)
        common[0] = 0
        total = int(common.sum())
        if total / size > alpha:
            most = len(lesion_voxels) + 1 if stops_early else len(region_voxels)
            found += _mostly_inside(common, outside, region_voxels, total, most, beta, gamma)
    return found


def _mostly_inside(common, outside, region_voxels, total, most, beta, gamma) -> bool:
    weight = 0.0
    largest_first = sorted(range(1, len(region_voxels) + 1), key=lambda j: (-common[j], j))
    for j in largest_first[:most]:
        if weight >= gamma:
            break
        if outside[j] / region_voxels[j - 1] > beta:
            return False
        weight += common[j] / total
    return True


def voxelwise(reference: np.ndarray, prediction: np.ndarray) -> Figures:
    """Overlap of two masks from their voxels, one formula each."""
    common, either = int((reference & prediction).sum()), int((reference | prediction).sum())
    wanted, given = int(reference.sum()), int(prediction.sum())
    return {
        "dice": _ratio(2 * common, wanted + given),
        "iou": _ratio(common, either),
        "sensitivity": _ratio(common, wanted),
        "precision": _ratio(common, given),
    }


def border_distances(
    reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float], tolerance_mm: float
) -> Figures:
    """Distances between the centres of border voxels, each of them counting once.

    The definition of MONAI and others: a border voxel has a face neighbour outside the mask. Both
    masks must hold something.
    """
    borders = [mask & ~ndimage.binary_erosion(mask) for mask in (reference, prediction)]
    forth, back = (
        ndimage.distance_transform_edt(~there, sampling=spacing_mm)[here]
        for here, there in (borders, borders[::-1])
    )
    both = np.concatenate([forth, back])
    return {
        "hd95_mm": float(max(np.percentile(forth, 95), np.percentile(back, 95))),
        "assd_mm": float(both.mean()),
        "surface_dice": float((both <= tolerance_mm).mean()),
    }


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _harmonic(first: float | None, second: float | None) -> float | None:
    """The limit 0 where both are 0: the WMH challenge writes 0 there, that of MSSEG nan."""
    if first is None or second is None:
        return None
    return 2 * first * second / (first + second) if first + second else 0.0
