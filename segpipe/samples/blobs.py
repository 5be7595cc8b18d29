"""Lesions, and what is as bright as a lesion without being one."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from segpipe.samples.brain import Brain, smooth_noise


@dataclass
class Findings:
    """Bright spots of one case.

    Parameters
    ----------
    lesions, distractors : (X, Y, Z) float32 ndarray
        Share of each voxel that belongs to a lesion, or to something that only looks like one.
    flair, t1 : (X, Y, Z) float32 ndarray
        What they add to the noiseless channels.
    kinds : list of (str, float)
        Kind and volume in mm³ of everything placed.
    """

    lesions: np.ndarray
    distractors: np.ndarray
    flair: np.ndarray
    t1: np.ndarray
    kinds: list[tuple[str, float]] = field(default_factory=list)


def blob(
    rng: np.random.Generator,
    allowed: np.ndarray,
    centre: np.ndarray,
    volume_mm3: float,
    spacing_mm: float,
    *,
    border_mm: float = 1.0,
) -> tuple[tuple[slice, ...], np.ndarray] | None:
    """An irregular soft shape of about a given volume: thresholded smooth noise on an ellipsoid.

    Parameters
    ----------
    allowed : (X, Y, Z) float ndarray
        Share of each voxel that may be taken.
    centre : (3,) int ndarray
        Voxel from which it grows.
    volume_mm3, spacing_mm : float
    border_mm : float
        Half width of the soft border.

    Returns
    -------
    (window, soft) or None
        Where it lies and its share of each voxel there; None where there is no room.
    """
    radius = (3 * volume_mm3 / (4 * np.pi)) ** (1 / 3)
    half = int(np.ceil(2.2 * radius / spacing_mm)) + 2
    window = tuple(
        slice(max(c - half, 0), min(c + half + 1, n))
        for c, n in zip(centre, allowed.shape, strict=True)
    )
    room = allowed[window]
    axes = [
        (np.arange(w.start, w.stop) - c) * spacing_mm for w, c in zip(window, centre, strict=True)
    ]
    offset = np.stack(np.meshgrid(*axes, indexing="ij"))
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    stretch = rng.uniform(0.65, 1.3, 3)
    reach = np.linalg.norm(np.tensordot(turn / stretch[:, None], offset, axes=1), axis=0) / radius
    coarse = smooth_noise(rng, room.shape, max(1.6, 0.9 * radius / spacing_mm))
    fine = smooth_noise(rng, room.shape, 1.6)
    shape = 1 - reach + 0.32 * coarse + 0.10 * fine
    shape[room < 0.4] = -9
    count = round(volume_mm3 / spacing_mm**3)
    if count < 2 or np.count_nonzero(shape > -9) < 0.7 * count:
        return None
    cut = np.partition(shape.ravel(), -count)[-count]
    labels, _ = ndimage.label(shape >= cut, structure=np.ones((3, 3, 3)))
    main = int(np.argmax(np.bincount(labels.ravel())[1:])) + 1
    others = ndimage.binary_dilation((labels > 0) & (labels != main), iterations=2)
    soft = np.clip((shape - cut) * radius / (2 * border_mm) + 0.5, 0, 1)
    near = ndimage.binary_dilation(labels == main, iterations=2) & ~(others & (labels != main))
    soft = (soft * near * np.clip(room * 1.6, 0, 1)).astype(np.float32)
    return window, soft


class Painter:
    """Places blobs one after the other; each knows the ground that is left."""

    def __init__(self, brain: Brain, rng: np.random.Generator) -> None:
        self.brain, self.rng = brain, rng
        zeros = np.zeros(brain.inside.shape, np.float32)
        self.findings = Findings(zeros, zeros.copy(), zeros.copy(), zeros.copy())
        self.free = brain.inside.copy()

    def place(
        self,
        kind: str,
        allowed: np.ndarray,
        weight: np.ndarray,
        volume_mm3: float,
        flair: float,
        t1: float,
        *,
        border_mm: float = 1.0,
    ) -> None:
        """Grow one blob from a voxel drawn by ``weight``; ``flair`` and ``t1`` are its contrast."""
        chance = (weight * (allowed > 0.6) * self.free).ravel()
        if chance.sum() <= 0:
            return
        cumulative = np.cumsum(chance, dtype=np.float64)
        start = np.searchsorted(cumulative, self.rng.uniform(0, cumulative[-1]))
        centre = np.array(np.unravel_index(start, weight.shape))
        ground = allowed * self.free
        made = blob(
            self.rng, ground, centre, volume_mm3, self.brain.spacing_mm, border_mm=border_mm
        )
        if made is None:
            return
        window, soft = made
        texture = 1 + 0.12 * smooth_noise(self.rng, soft.shape, 2.5)
        found = self.findings
        lesion = kind == "lesion"
        target = found.lesions if lesion else found.distractors
        gain = np.maximum(soft - target[window], 0)
        found.flair[window] += flair * gain * texture
        found.t1[window] += t1 * gain
        target[window] = np.maximum(target[window], soft)
        volume = float(np.count_nonzero(soft > 0.5)) * self.brain.spacing_mm**3
        found.kinds.append((kind, volume))
        if not lesion:
            self.free[window] &= ~ndimage.binary_dilation(soft > 0.2, iterations=2)

    def close_lesions(self) -> None:
        """Keep what follows at a distance from every lesion, so that nothing merges."""
        self.free &= ~ndimage.binary_dilation(self.findings.lesions > 0.1, iterations=2)

    def size(self, median_mm3: float, spread: float, low: float, high: float) -> float:
        """A log-normal volume in mm³ within bounds."""
        return float(np.clip(median_mm3 * np.exp(spread * self.rng.standard_normal()), low, high))


def add_lesions(painter: Painter, load: float) -> None:
    """Periventricular caps and plaques, and subcortical lesions; ``load`` 0 is none, 1 is many."""
    rng, brain = painter.rng, painter.brain
    allowed = brain.zones["plausible"] * np.clip(brain.white * 1.4 + 0.1, 0, 1)
    near = np.exp(-brain.zones["to_ventricles"] / 4)
    far = np.clip(brain.zones["to_ventricles"] / 14 - 0.5, 0, 1)
    contrast = rng.uniform(0.32, 0.44)
    plan = (
        (near, round(1 + 4 * load), (800, 0.6, 300, 2000)),
        (near, round(2 + 5 * load), (160, 0.8, 40, 1200)),
        (far, round(2 + 8 * load), (90, 0.8, 35, 700)),
    )
    for weight, count, sizes in plan:
        for _ in range(count):
            flair = contrast * rng.uniform(0.75, 1.3)
            hypointense = -rng.uniform(0.05, 0.35)
            border = rng.uniform(0.7, 1.4)
            painter.place(
                "lesion",
                allowed,
                weight,
                painter.size(*sizes),
                flair,
                hypointense,
                border_mm=border,
            )


def add_distractors(painter: Painter) -> None:
    """Bright cortex, choroid plexus, flow, septum, rim, and lesion-like spots in wrong places."""
    rng, brain = painter.rng, painter.brain
    zones, size = brain.zones, painter.size
    ones = np.ones_like(brain.white)
    elsewhere = np.maximum(zones["infratentorial"], zones["pole"]) * (1 - brain.csf)
    contrast = rng.uniform(0.32, 0.44)
    cortex = zones["cortex"] * (1 - brain.csf) * (1 - brain.white * 0.7)
    flow = np.clip(zones["cistern"] * 1.3, 0, 1)
    rim = np.exp(-(((zones["depth"] - 2.5) / 2) ** 2)) * brain.inside
    plan = (
        ("cortex", cortex, ones, rng.integers(7, 13), (220, 0.8, 50, 1200), -0.05, 0.0),
        (
            "choroid",
            zones["choroid"] * 1.5,
            ones,
            rng.integers(2, 5),
            (260, 0.5, 80, 700),
            0.42,
            0.25,
        ),
        ("flow", flow, ones, rng.integers(3, 7), (180, 0.7, 50, 700), 0.42, 0.10),
        ("lookalike", elsewhere, ones, rng.integers(6, 11), (170, 0.8, 45, 1200), 0.0, -0.20),
        (
            "deep_grey",
            zones["deep_grey"],
            ones,
            rng.integers(1, 4),
            (120, 0.6, 45, 500),
            -0.04,
            -0.08,
        ),
        ("septum", zones["septum"] * 1.6, ones, rng.integers(0, 3), (120, 0.5, 45, 350), 0.15, 0.1),
        ("rim", rim, ones, rng.integers(2, 6), (200, 0.7, 50, 800), 0.10, 0.05),
    )
    for kind, allowed, weight, count, sizes, more_flair, t1 in plan:
        for _ in range(int(count)):
            flair = contrast * rng.uniform(0.75, 1.3) + more_flair
            border = rng.uniform(0.7, 1.4)
            painter.place(
                kind,
                np.clip(allowed, 0, 1),
                weight,
                size(*sizes),
                flair,
                t1 * rng.uniform(0.3, 1.6),
                border_mm=border,
            )
