"""From tissues to what a scanner would store: contrast, blur, bias field, Rician noise, steps."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from segpipe.samples.blobs import Findings
from segpipe.samples.brain import Brain, smooth_noise

LEVELS = (34, 44)  # steps up to white matter on T1: few, so that the noise stays small on disk


def _flair(brain: Brain, rng: np.random.Generator) -> np.ndarray:
    shape, spacing = brain.inside.shape, brain.spacing_mm
    white, grey = rng.uniform(0.55, 0.60), rng.uniform(0.71, 0.79)
    regional = 0.035 * smooth_noise(rng, shape, 25 / spacing)
    texture = 0.015 * smooth_noise(rng, shape, 5 / spacing)
    lining = 0.07 * np.exp(-brain.zones["to_ventricles"] / 1.5)
    parts = (
        brain.white * (white + 0.5 * regional + texture + lining)
        + brain.grey * (grey + regional + texture)
        + brain.csf * rng.uniform(0.10, 0.16)
    )
    return parts - 0.05 * brain.zones["deep_grey"]


def _t1(brain: Brain, rng: np.random.Generator) -> np.ndarray:
    shape, spacing = brain.inside.shape, brain.spacing_mm
    texture = 0.015 * smooth_noise(rng, shape, 6 / spacing)
    grey = rng.uniform(0.64, 0.72) + 0.06 * brain.zones["deep_grey"]
    return brain.white * (1 + texture) + brain.grey * (grey + texture) + brain.csf * 0.24


def _acquire(
    ideal: np.ndarray,
    brain: Brain,
    rng: np.random.Generator,
    blur_mm: tuple[float, float, float],
    noise: float,
) -> np.ndarray:
    """Blur, bias field, Rician noise; 0 outside the brain; uint8."""
    spacing = brain.spacing_mm
    signal = ndimage.gaussian_filter(ideal * brain.inside, [b / spacing for b in blur_mm])
    bias = np.exp(0.08 * smooth_noise(rng, ideal.shape, 75 / spacing))
    signal = signal * bias
    real, imaginary = (
        noise * _unit(ndimage.gaussian_filter(rng.standard_normal(ideal.shape), 0.35))
        for _ in range(2)
    )
    measured = np.hypot(signal + real, imaginary) * rng.uniform(*LEVELS)
    return np.where(brain.inside, np.clip(np.rint(measured), 1, 255), 0).astype(np.uint8)


def _unit(field: np.ndarray) -> np.ndarray:
    return field / field.std()


def scan(
    brain: Brain, findings: Findings, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """FLAIR and T1, each (X, Y, Z) uint8 with background 0."""
    blur = rng.uniform(0.6, 0.9)
    through = rng.choice([1.0, 1.0, 1.6])  # some FLAIR were acquired in thicker slices
    noise = rng.uniform(0.022, 0.036)
    flair = _acquire(
        np.clip(_flair(brain, rng) + findings.flair, 0, None),
        brain,
        rng,
        (blur, blur, blur * through),
        noise,
    )
    ideal = np.clip(_t1(brain, rng) + findings.t1, 0.05, None)
    t1 = _acquire(ideal, brain, rng, (blur, blur, blur), 0.8 * noise)
    return flair, t1
