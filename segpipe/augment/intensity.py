"""Transforms of intensities in [0, 1], each channel on its own, as albumentations transforms.

albumentations' own do not serve here: its noise and brightness refuse volumes, its blur works
within slices and clips, its gamma gives all channels one curve.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import albumentations as al
import numpy as np
from scipy import sparse

from segpipe.geometry import apply_along, as_operator, resample

FACTORS = (0.75, 1.25)
GAMMAS = (0.7, 1.5)
NOISE = 0.3
BLUR = (0.5, 1.0)
BIAS = 0.3
COARSER = (1.0, 2.0)


def each_channel(
    volume: np.ndarray, function: Callable[..., np.ndarray], *drawn: np.ndarray
) -> np.ndarray:
    """Apply ``function(channel, *values)`` to every channel of (X, Y, Z, C) voxels.

    numpy is slow over a last axis of a few channels, and fast over contiguous ones.
    """
    out = np.empty_like(volume)
    for channel, values in enumerate(zip(*drawn, strict=True)):
        out[..., channel] = function(np.ascontiguousarray(volume[..., channel]), *values)
    return out


def stretch(channel: np.ndarray, factor: np.float32) -> np.ndarray:
    """Contrast about the mean, within the channel's own range."""
    mean = channel.mean()
    return np.clip((channel - mean) * factor + mean, channel.min(), channel.max())


def bend(channel: np.ndarray, power: float, inverted: bool) -> np.ndarray:
    """Gamma over the channel's own range, from the dark end, or from the bright one."""
    low, high = channel.min(), channel.max()
    if not high > low:
        return channel
    start, span = (high, low - high) if inverted else (low, high - low)
    unit = np.clip((channel - start) / span, 0, 1)
    return np.power(unit, np.float32(power)) * span + start


def add_noise(channel: np.ndarray, level: np.float32, noise: np.ndarray) -> np.ndarray:
    """Add noise of ``level`` standard deviations of the channel."""
    return channel + noise * (level * channel.std())


class Brightness3D(al.ImageOnlyTransform):
    """Multiplies each channel by a factor between 0.75 and 1.25."""

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Draw a factor per channel."""
        channels = data["volume"].shape[3]
        return {"factors": self.random_generator.uniform(*FACTORS, channels).astype(np.float32)}

    def apply_to_volume(self, volume: np.ndarray, **params: Any) -> np.ndarray:
        """Multiply."""
        return each_channel(volume, np.multiply, params["factors"])


class Contrast3D(al.ImageOnlyTransform):
    """Stretches each channel about its mean by 0.75 to 1.25, within its own range."""

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Draw a factor per channel."""
        channels = data["volume"].shape[3]
        return {"factors": self.random_generator.uniform(*FACTORS, channels).astype(np.float32)}

    def apply_to_volume(self, volume: np.ndarray, **params: Any) -> np.ndarray:
        """Stretch."""
        return each_channel(volume, stretch, params["factors"])


class Gamma3D(al.ImageOnlyTransform):
    """Bends each channel's range by a power between 0.7 and 1.5, from either end."""

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Draw a power and an end per channel."""
        channels = data["volume"].shape[3]
        low, high = np.log(GAMMAS)
        return {
            "powers": np.exp(self.random_generator.uniform(low, high, channels)),
            "inverted": self.random_generator.random(channels) < 0.5,
        }

    def apply_to_volume(self, volume: np.ndarray, **params: Any) -> np.ndarray:
        """Bend; a constant channel stays as it is."""
        return each_channel(volume, bend, params["powers"], params["inverted"])


class Noise3D(al.ImageOnlyTransform):
    """Adds Gaussian noise of up to 0.3 standard deviations of the channel in the patch."""

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Draw the noise."""
        *shape, channels = data["volume"].shape
        return {
            "levels": self.random_generator.uniform(0, NOISE, channels).astype(np.float32),
            "noise": self.random_generator.standard_normal((channels, *shape), dtype=np.float32),
        }

    def apply_to_volume(self, volume: np.ndarray, **params: Any) -> np.ndarray:
        """Add."""
        return each_channel(volume, add_noise, params["levels"], params["noise"])


class Blur3D(al.ImageOnlyTransform):
    """Gaussian blur of 0.5 to 1 times the finest spacing, the same in mm along every axis.

    Parameters
    ----------
    spacing_mm : (3,) float
    p : float
        Probability.
    """

    def __init__(self, spacing_mm: tuple[float, float, float], p: float) -> None:
        super().__init__(p=p)
        self.spacing_mm = spacing_mm

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Draw a width in mm per channel."""
        channels = data["volume"].shape[3]
        width = self.random_generator.uniform(*BLUR, channels) * min(self.spacing_mm)
        return {"sigmas_mm": width}

    def apply_to_volume(self, volume: np.ndarray, **params: Any) -> np.ndarray:
        """Blur."""
        out = np.empty_like(volume)
        for channel, sigma_mm in enumerate(params["sigmas_mm"]):
            blurred = np.ascontiguousarray(volume[..., channel])
            for axis, spacing in enumerate(self.spacing_mm):
                blurred = apply_along(
                    blur_operator(blurred.shape[axis], sigma_mm / spacing), blurred, axis
                )
            out[..., channel] = blurred
        return out


def blur_operator(size: int, sigma: float) -> sparse.csr_array:
    """(N, N) float32 operator of a Gaussian of ``sigma`` voxels; rows sum to 1 at borders too."""
    steps = np.arange(size)
    weights = np.exp(-0.5 * np.square((steps[:, np.newaxis] - steps) / sigma))
    return as_operator(weights / weights.sum(axis=1, keepdims=True))


class BiasField3D(al.ImageOnlyTransform):
    """Multiplies each channel by a smooth field, as an uneven coil does."""

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Draw the field: its logarithm has four nodes along an axis."""
        volume = data["volume"]
        nodes = [min(4, n) for n in volume.shape[:3]]
        strength = self.random_generator.uniform(0, BIAS)
        coarse = self.random_generator.standard_normal((*nodes, volume.shape[3]), dtype=np.float32)
        return {"field": np.exp(resample(coarse * np.float32(strength), volume.shape[:3], 3))}

    def apply_to_volume(self, volume: np.ndarray, **params: Any) -> np.ndarray:
        """Multiply."""
        return volume * params["field"]


class LowResolution3D(al.ImageOnlyTransform):
    """Resamples each channel to voxels up to twice as coarse, and back.

    Parameters
    ----------
    fixed_axes : (3,) bool
        Axes that keep their voxels.
    p : float
        Probability.
    """

    def __init__(self, fixed_axes: tuple[bool, bool, bool], p: float) -> None:
        super().__init__(p=p)
        self.fixed_axes = fixed_axes

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Draw how much coarser each channel becomes."""
        channels = data["volume"].shape[3]
        return {"coarser": self.random_generator.uniform(*COARSER, channels)}

    def apply_to_volume(self, volume: np.ndarray, **params: Any) -> np.ndarray:
        """Resample there and back."""
        shape = volume.shape[:3]
        out = np.empty_like(volume)
        for channel, factor in enumerate(params["coarser"]):
            x, y, z = (
                n if fixed else max(1, math.ceil(n / factor))
                for n, fixed in zip(shape, self.fixed_axes, strict=True)
            )
            out[..., channel] = resample(resample(volume[..., channel], (x, y, z), 1), shape, 1)
        return out
