"""Finding template space in a scan that lies elsewhere.

Coarse fits from many starts, against the bare brain and against a made-up head, give candidates.
Each is refined on the scan's own brain, then on the whole scan close to the brain; what shares most
with the template wins and is judged against decoys. Nothing is drawn by chance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
from scipy import ndimage

from segpipe.anatomy import itk
from segpipe.anatomy.pattern import brain_pattern, head_pattern
from segpipe.anatomy.placement import Placement, invert_field, map_on_scan, map_on_template
from segpipe.anatomy.scan_brain import acquired, brain_level, dice, own_brain, shrink
from segpipe.anatomy.similarity import CENTER_MM, contrast_at, fit_at, shared_information
from segpipe.anatomy.template import mni152_map
from segpipe.volume import Volume

Transform = Literal["rigid", "affine", "bspline"]

LEAST_SIMILARITY, LEAST_CONTRAST, LEAST_SEEN = 0.04, 1.7, 0.5
LEAST_SCALE, LARGEST_SCALE = 0.6, 1.5
LEAST_STRETCH = 0.2

_COARSE_MM, _MIDDLE_MM, _FINE_MM, _SHRUNK_MM = 8.0, 4.0, 3.0, 2.0
_WIDE_MM, _NARROW_MM = 12.0, 5.0  # around the brain
_BRIGHTEST = 1.6  # of brain, beyond which nothing is told apart
_TOP_MM = 80.0  # of the template's brain, above the origin
_SCALP_MM = 6.0
_FITTED, _REFINED = 6, 2  # starts that are fitted, and fits that are refined, of each pattern
_POLISHED = 4
_BENDS = 12
_INSIDE = 0.99  # of a map of ones: all that a voxel is made from lies inside the scan
_APART_MM = 4.0  # two fits nearer than this are one
_SEEN = "the template's brain lies inside the scan"


def register(scan: Volume, template: Volume, transform: Transform, channel: str) -> Placement:
    """Register a template to a scan; the same bits every time, on any number of cores.

    Parameters
    ----------
    scan : Volume
        (X, Y, Z), one channel, of a head or of a stripped brain.
    template : Volume
        (X, Y, Z) float32 in MNI152 space, with 0 outside the brain.
    transform : {"rigid", "affine", "bspline"}
    channel : str
        Name of the scan's channel, for the record.

    Returns
    -------
    Placement
        With ``similarity``, the shared information within 5 mm of the brain (0 to 1);
        ``contrast``, how many times better than the best decoy the template fits; and
        ``overlap``, the Dice of the template's brain with the scan's own. Where the scan cannot be
        registered, ``problem`` says why, with the figures as far as they were measured.
    """
    method = transform
    if not (scan.array > 0).any() or scan.array.min() == scan.array.max():
        return Placement(method, np.eye(4), channel, problem="the scan is empty or constant")
    if _sheared(scan):
        return Placement(method, np.eye(4), channel, problem="the axes of its grid are not square")
    view = shrink(acquired(scan), _SHRUNK_MM)
    kind: itk.Kind = "rigid" if transform == "rigid" else "affine"
    best = _best(view, template, kind)
    if best is None:
        return Placement(method, np.eye(4), channel, problem="nothing like a brain was found")
    affine = _polished(view, template, best, kind)
    placement = _judged(view, template, affine, method, channel)
    if transform == "bspline" and not placement.problem:
        return _bent(view, template, placement)
    return placement


def _sheared(scan: Volume) -> bool:
    directions = scan.affine[:3, :3] / np.array(scan.spacing_mm)
    return bool(np.abs(directions.T @ directions - np.eye(3)).max() > 1e-3)


def _candidates(view: Volume, template: Volume, kind: itk.Kind) -> Iterator[np.ndarray]:
    """Coarse fits, the best of each pattern, that lie apart from one another."""
    coarse = shrink(view, _COARSE_MM)
    patterns = brain_pattern(template, _COARSE_MM, _WIDE_MM), head_pattern(template, _COARSE_MM)
    given: list[np.ndarray] = []
    for pattern in patterns:
        fitter = itk.Fitter(pattern, coarse)
        starts = [(fitter.value_at(start), start) for start in _starts(view)]
        starts = sorted((s for s in starts if np.isfinite(s[0])), key=lambda s: -s[0])
        fits = []
        for _, start in starts[:_FITTED]:
            try:
                fit = fitter.fit(start, "rigid" if kind == "rigid" else "similarity", 60)
            except itk.NoOverlapError:
                continue
            fits.append((fitter.value_at(fit), fit))
        wanted = len(given) + _REFINED
        for _, fit in sorted(fits, key=lambda f: -f[0]):
            if len(given) < wanted and all(_distance_mm(fit, g) > _APART_MM for g in given):
                given.append(fit)
    yield from given


def _starts(view: Volume) -> Iterator[np.ndarray]:
    """Rigid guesses: as it lies, or below the top of what is bright, turned about the ears."""
    bright = view.array > 0.1 * np.percentile(view.array[view.array > 0], 99)
    opened = ndimage.binary_opening(bright)
    voxels = np.argwhere(opened if opened.any() else bright)
    world = voxels @ view.affine[:3, :3].T + view.affine[:3, 3]
    low, high = np.percentile(world, (1, 99), axis=0)
    shifts = [np.zeros(3)]
    for lower in (24.0, 12.0, 0.0, -12.0, -24.0):
        shift = (low + high) / 2 - CENTER_MM
        shift[2] = high[2] - _SCALP_MM - _TOP_MM - lower
        shifts.append(shift)
    for shift in shifts:
        for degrees in (-30, -20, -10, 0, 10, 20):
            start = np.eye(4)
            cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
            start[1:3, 1:3] = [[cos, -sin], [sin, cos]]
            start[:3, 3] = CENTER_MM + shift - start[:3, :3] @ CENTER_MM
            yield start


def _best(view: Volume, template: Volume, kind: itk.Kind) -> np.ndarray | None:
    """What shares most with the template, of all candidates refined; None where none fits."""
    seen: list[np.ndarray] = []
    found: list[tuple[float, np.ndarray]] = []
    for candidate in _candidates(view, template, kind):
        try:
            affine = _brain_fit(view, template, candidate, kind, _COARSE_MM)
            if affine is None or any(_distance_mm(affine, a) < _APART_MM for a in seen):
                continue
            seen.append(affine)
            affine = _brain_fit(view, template, affine, kind, _MIDDLE_MM)
            if affine is None:
                continue
            found.append((_similarity(view, template, affine)[0], affine))
            affine = _close_fit(view, template, affine, kind, _MIDDLE_MM)
            found.append((_similarity(view, template, affine)[0], affine))
        except itk.NoOverlapError:
            continue
    known = [entry for entry in found if np.isfinite(entry[0])]
    return max(known, key=lambda entry: entry[0])[1] if known else None


def _brain_fit(
    view: Volume, template: Volume, affine: np.ndarray, kind: itk.Kind, step_mm: float
) -> np.ndarray | None:
    """A fit on the scan's own brain; None where it has none."""
    alone = _brain_alone(view, affine)
    if alone is None:
        return None
    fitter = itk.Fitter(brain_pattern(template, step_mm, _WIDE_MM), shrink(alone, step_mm))
    return fitter.fit(affine, kind, 60)


def _brain_alone(view: Volume, affine: np.ndarray) -> Volume | None:
    """The scan with all but its own brain blackened."""
    brain = own_brain(view, affine)
    if not brain.any():
        return None
    near = ndimage.distance_transform_edt(~brain, sampling=view.spacing_mm) <= _SHRUNK_MM
    clipped = _clipped(view, affine)
    return clipped.with_array(clipped.array * near)


def _clipped(view: Volume, affine: np.ndarray) -> Volume:
    """The scan without what is brighter than any brain, so that the histogram resolves brain."""
    level = brain_level(view, affine)
    top = _BRIGHTEST * level if level > 0 else float(view.array.max())
    return view.with_array(np.minimum(view.array, np.float32(top)))


def _close_fit(
    view: Volume, template: Volume, affine: np.ndarray, kind: itk.Kind, step_mm: float
) -> np.ndarray:
    scan = shrink(_clipped(view, affine), step_mm)
    return itk.Fitter(brain_pattern(template, step_mm, _NARROW_MM), scan).fit(affine, kind, 40)


def _polished(view: Volume, template: Volume, affine: np.ndarray, kind: itk.Kind) -> np.ndarray:
    """Fits at the finest step, as long as each is better than the one before."""
    value = _similarity(view, template, affine)[0]
    for _ in range(_POLISHED):
        try:
            closer = _close_fit(view, template, affine, kind, _FINE_MM)
        except itk.NoOverlapError:
            return affine
        better = _similarity(view, template, closer)[0]
        if not better > value:
            return affine
        affine, value = closer, better
    return affine


def _similarity(view: Volume, template: Volume, affine: np.ndarray) -> tuple[float, float]:
    pattern = brain_pattern(template, _MIDDLE_MM, _NARROW_MM)
    scan = shrink(_clipped(view, affine), _MIDDLE_MM)
    return fit_at(pattern.image, pattern.mask, scan, affine)


def _judged(
    view: Volume, template: Volume, affine: np.ndarray, method: str, channel: str
) -> Placement:
    pattern = brain_pattern(template, _MIDDLE_MM, _NARROW_MM)
    scan = shrink(_clipped(view, affine), _MIDDLE_MM)
    similarity, seen = fit_at(pattern.image, pattern.mask, scan, affine)
    contrast = contrast_at(pattern.image, pattern.mask, scan, affine)
    problem = _problem(affine, seen, similarity, contrast)
    placement = Placement(method, affine, channel, similarity, contrast, problem=problem)
    return replace(placement, overlap=_overlap(view, placement))


def _overlap(view: Volume, placement: Placement) -> float:
    brain = map_on_scan(mni152_map("brain"), placement, view) > 0.5
    return dice(brain, own_brain(view, placement.affine))


def _problem(affine: np.ndarray, seen: float, similarity: float, contrast: float) -> str:
    """What is wrong with a placement, in words; empty when nothing is."""
    scales = np.linalg.svd(affine[:3, :3], compute_uv=False)
    if seen < LEAST_SEEN:
        return f"only {seen:.0%} of {_SEEN} ({LEAST_SEEN:.0%} needed)"
    if scales.min() < LEAST_SCALE or scales.max() > LARGEST_SCALE:
        return (
            f"it would be stretched {scales.min():.2f} to {scales.max():.2f} times "
            f"({LEAST_SCALE} to {LARGEST_SCALE} allowed)"
        )
    if not similarity >= LEAST_SIMILARITY:
        return f"similarity {similarity:.3f} ({LEAST_SIMILARITY} needed)"
    if not contrast >= LEAST_CONTRAST:
        return (
            f"it fits hardly better than where it cannot belong (contrast {contrast:.2f}, "
            f"{LEAST_CONTRAST} needed)"
        )
    return ""


def _bent(view: Volume, template: Volume, placement: Placement) -> Placement:
    """A B-spline before the affine where it folds nothing and fits better; else the affine."""
    straight = replace(placement, method="affine")
    pattern = brain_pattern(template, _MIDDLE_MM, _NARROW_MM)
    scan = shrink(_clipped(view, placement.affine), _MIDDLE_MM)
    try:
        bend = itk.Fitter(pattern, scan).bend(placement.affine, _BENDS)
    except itk.NoOverlapError:
        return straight
    if _least_stretch(bend, pattern.mask) < LEAST_STRETCH:
        return straight
    bent = replace(placement, bend=bend, unbend=invert_field(bend))
    everywhere = Volume(np.ones(scan.shape, np.float32), scan.affine)
    seen = pattern.mask & (map_on_template(everywhere, bent, pattern.image) > _INSIDE)
    both = seen & (map_on_template(everywhere, straight, pattern.image) > _INSIDE)
    before, after = (_shared(scan, one, pattern.image, both) for one in (straight, bent))
    if not after > before:
        return straight
    similarity = _shared(scan, bent, pattern.image, seen)  # what lies outside says nothing
    return replace(bent, similarity=similarity, overlap=_overlap(view, bent))


def _shared(scan: Volume, placement: Placement, template: Volume, mask: np.ndarray) -> float:
    values = map_on_template(scan, placement, template)
    return shared_information(template.array[mask], values[mask])


def _least_stretch(bend: Volume, mask: np.ndarray) -> float:
    """Smallest factor by which a displacement changes a volume where the mask is."""
    change = np.stack(
        [
            np.stack(np.gradient(bend.array[..., axis], *bend.spacing_mm), axis=-1)
            for axis in range(3)
        ],
        axis=-2,
    )
    return float(np.linalg.det(change + np.eye(3))[mask].min())


def _distance_mm(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance between where two affines put the template's brain."""
    corners = np.array([[x, y, z, 1.0] for x in (-60, 60) for y in (-90, 60) for z in (-40, 70)])
    return float(np.linalg.norm((corners @ (a - b).T)[:, :3], axis=1).mean())
