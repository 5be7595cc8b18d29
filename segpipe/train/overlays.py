"""Pictures of validation cases while a network trains."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from segpipe.lesions.paint import FALSE_POSITIVE, MISSED, TRUE_POSITIVE

COLOURS = {TRUE_POSITIVE: (86, 180, 233), FALSE_POSITIVE: (255, 176, 0), MISSED: (240, 143, 200)}
"""Of the outlines: found, false positive, missed; the same as in the cohort report."""

_PANEL = 320
_CAPTION = 16


def overlay(
    image: np.ndarray, reference: np.ndarray, painted: np.ndarray, spacing_mm: np.ndarray
) -> np.ndarray:
    """Two slices of a case: the one with most lesion, and the one with most false positives.

    The first stays the same through a training, so that its pictures can be compared.

    Parameters
    ----------
    image : (X, Y, Z) float ndarray
        One channel, oriented R, A, S.
    reference : (X, Y, Z) bool ndarray
    painted : (X, Y, Z) uint8 ndarray
        Of :func:`segpipe.lesions.paint.paint`.
    spacing_mm : (3,) float

    Returns
    -------
    (H, W, 3) uint8 ndarray
        The patient's left is on the right. Outlines are blue (found), orange (false positive) and
        pink (missed).
    """
    axis = 2 if np.ptp(spacing_mm) < 0.5 * np.min(spacing_mm) else int(np.argmax(spacing_mm))
    others = tuple(a for a in range(3) if a != axis)
    lesion, wrong = (mask.sum(axis=others) for mask in (reference, painted == FALSE_POSITIVE))
    first = int(lesion.argmax()) if lesion.any() else image.shape[axis] // 2
    second = int(wrong.argmax()) if wrong.any() else first
    low, high = np.percentile(image, [1, 99.5])
    grey = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
    edges = float(spacing_mm[others[0]]), float(spacing_mm[others[1]])
    panels = [
        _panel(grey.take(first, axis), painted.take(first, axis), edges, "most lesion", first),
        _panel(
            grey.take(second, axis),
            painted.take(second, axis),
            edges,
            "most false positive" if wrong.any() else "no false positive",
            second,
        ),
    ]
    return np.concatenate(panels, axis=1)


def _panel(
    grey: np.ndarray, painted: np.ndarray, edges: tuple[float, float], what: str, index: int
) -> np.ndarray:
    """(H, W, 3) uint8: a slice with outlines and a caption."""
    shape = np.array(grey.shape) * edges
    columns, rows = (int(side) for side in np.round(shape * _PANEL / shape.max()))
    size = (max(columns, 1), max(rows, 1))

    def screen(plane: np.ndarray, how: Image.Resampling) -> np.ndarray:
        turned = np.ascontiguousarray(plane.T[::-1, ::-1])
        return np.asarray(Image.fromarray(turned).resize(size, how))

    shown = screen((grey * 255).astype(np.uint8), Image.Resampling.BILINEAR)
    colour = np.repeat(shown[..., None], 3, axis=2)
    kinds = screen(painted.astype(np.uint8), Image.Resampling.NEAREST)
    for kind, ink in COLOURS.items():
        mask = kinds == kind
        colour[mask & ~ndimage.binary_erosion(mask)] = ink
    picture = Image.new("RGB", (_PANEL, _PANEL + _CAPTION))
    picture.paste(Image.fromarray(colour), ((_PANEL - size[0]) // 2, _CAPTION))
    ImageDraw.Draw(picture).text((4, 2), f"slice {index + 1}, {what}", fill=(255, 255, 255))
    return np.asarray(picture)
