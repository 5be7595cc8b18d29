"""Panoptic quality: detection and overlap of matched lesions in one number.

Kirillov et al., Panoptic Segmentation, CVPR 2019. doi:10.1109/CVPR.2019.00963
"""

from __future__ import annotations

import math

import numpy as np


def recognition_quality(matches: int, lesions: int, regions: int) -> float:
    """matches / mean of lesions and predicted regions: the F1 of a one-to-one matching.

    No lesion and no region: nan. No lesion, some regions: 0. Lesions, no region: 0.

    Examples
    --------
    >>> recognition_quality(1, 2, 2)
    0.5
    """
    return 2 * matches / (lesions + regions) if lesions + regions else math.nan


def segmentation_quality(ious: np.ndarray) -> float:
    """Mean intersection over union of the matched pairs, (L,) float; without a match: nan.

    No lesion and no region: nan. No lesion, some regions: nan. Lesions, no region: nan.
    """
    return float(np.mean(ious)) if len(ious) else math.nan


def panoptic_quality(ious: np.ndarray, lesions: int, regions: int) -> float:
    """Recognition quality × segmentation quality, from the (L,) ratios of the matched pairs.

    No lesion and no region: nan. No lesion, some regions: 0. Lesions, no region: 0.

    Examples
    --------
    >>> import numpy as np
    >>> panoptic_quality(np.array([0.5]), 2, 2)
    0.25
    """
    recognised = recognition_quality(len(ious), lesions, regions)
    return recognised * segmentation_quality(ious) if len(ious) else recognised
