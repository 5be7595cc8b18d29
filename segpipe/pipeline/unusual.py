"""What is unusual about a scan, compared with those that a model was trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segpipe.model.bundle import Bundle
from segpipe.prepare import PreparedImage
from segpipe.prepare.profile import PERCENTILES


def unusual(prepared: PreparedImage, bundles: Sequence[Bundle]) -> tuple[str, ...]:
    """Every flag about a scan; of several bundles, it names those that it is unusual for.

    Parameters
    ----------
    prepared : PreparedImage
        The scan as the first bundle's plan prepares it. Only bundles with that plan can tell what
        its intensities should be.
    bundles : sequence of Bundle
    """
    bundles_of: dict[str, list[str]] = {}
    for bundle in bundles:
        flags = unusual_spacing(prepared, bundle)
        if bundle.plan == bundles[0].plan:
            flags += unusual_intensities(prepared, bundle)
        for flag in flags:
            bundles_of.setdefault(flag, []).append(bundle.name)
    return tuple(
        flag if len(names) == len(bundles) else f"{flag}, for {', '.join(names)}"
        for flag, names in bundles_of.items()
    )


def unusual_spacing(prepared: PreparedImage, bundle: Bundle) -> tuple[str, ...]:
    """A flag when the scan's spacing along R, A or S lies outside what the model was trained on.

    Slices as thick as those of training, but across another axis, are as unusual as thicker ones.
    """
    low, high = (np.array(limits) for limits in bundle.spacing_range_mm)
    spacing = np.array(prepared.transform.source_spacing_mm)
    if ((spacing < 0.9 * low) | (spacing > 1.1 * high)).any():
        found = " × ".join(f"{s:.2f}" for s in spacing)
        span = " × ".join(f"{a:.2f}–{b:.2f}" for a, b in zip(low, high, strict=True))
        return (
            f"spacing {found} mm along R, A and S lies outside that of the training scans "
            f"({span} mm)",
        )
    return ()


def unusual_intensities(prepared: PreparedImage, bundle: Bundle) -> tuple[str, ...]:
    """A flag for every channel whose intensities are distributed unlike those of training.

    Bundles from before the distribution was recorded flag nothing.
    """
    flags = []
    for channel, profile, seen in zip(
        bundle.plan.channels, prepared.profile, bundle.intensity_range, strict=False
    ):
        worst = seen.furthest_outside(profile)
        if worst is not None:
            flags.append(
                f"intensities of {channel} are distributed unlike those of the training scans: "
                f"another sequence, contrast, reconstruction or field of view? (normalised "
                f"percentile {PERCENTILES[worst]} at {profile[worst]:.2f}; in training "
                f"{seen.low[worst]:.2f} to {seen.high[worst]:.2f})"
            )
    return tuple(flags)
