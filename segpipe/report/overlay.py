"""Prepared cases for review: regions and reference outlined on a few slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segpipe.classes import IGNORE
from segpipe.config import RegionConfig
from segpipe.report import gallery, slices
from segpipe.report.outlines import Outline, outline_path
from segpipe.report.page import render
from segpipe.report.slices import Picture
from segpipe.volume import Volume

COLOURS = 6
GAP_MM = 6.0
TINT_RGB, TINT_ALPHA = (213, 94, 0), 80
_HALF = 127.5  # of the 255 steps in which prepared regions are stored


@dataclass(frozen=True)
class RegionLook:
    """How a region is drawn.

    Parameters
    ----------
    name : str
    weight : float
    kind : str
        Of its outline; decides the colour.
    dashed : bool
        A complement, whose border is that of another region, or a colour's second use.
    """

    name: str
    weight: float
    kind: str
    dashed: bool


def region_looks(regions: Sequence[RegionConfig]) -> dict[str, RegionLook]:
    """Colour and line of every region of a configuration, by name."""
    return {
        region.name: RegionLook(
            region.name,
            region.weight,
            f"region-{index % COLOURS + 1}",
            region.source == "complement" or index >= COLOURS,
        )
        for index, region in enumerate(regions)
    }


def outline_level(values: np.ndarray) -> float | None:
    """Value above which a map is outlined, in steps of 1/255; None where it is 0 everywhere.

    It is half of 255, or half of the maximum where that is lower.
    """
    top = int(values.max(initial=0))
    return (_HALF if top > _HALF else top / 2) if top else None


def overlay_pictures(
    image: Volume,
    reference: np.ndarray | None,
    regions: np.ndarray,
    looks: Sequence[RegionLook],
    channel: str,
    tint: np.ndarray | None = None,
) -> tuple[Picture, ...]:
    """Slices of a prepared case with every region and the reference outlined.

    The first one cuts through most of the reference, in the plane of thick slices, else axial; it
    is left out where there is no lesion. The others go through the middle along each axis.

    Parameters
    ----------
    image : Volume
        (X, Y, Z) along R, A, S.
    reference : (X, Y, Z) uint8 ndarray, optional
        Class indices; 255 is ignored.
    regions : (X, Y, Z, R) uint8 ndarray
        In steps of 1/255.
    looks : sequence of RegionLook
        In the order of the last axis.
    channel : str
        Name of what is shown.
    tint : (X, Y, Z) float ndarray, optional
        How deep each voxel is tinted: 0 not at all, 1 most.

    Returns
    -------
    tuple of Picture
    """
    marks = np.zeros(image.shape, np.uint8) if reference is None else reference
    lesions = np.where(marks == IGNORE, 0, marks)
    axis = slices.viewing_axis(image)
    places = [(a, image.shape[a] // 2, "the middle") for a in (2, 1, 0)]
    if lesions.any():
        others = tuple(a for a in range(3) if a != axis)
        best = int(np.count_nonzero(lesions, axis=others).argmax())
        places.insert(0, (axis, best, "most of the reference"))
    window = slices.grey_window(image.array, lesions)
    levels = [outline_level(regions[..., index]) for index in range(regions.shape[3])]
    pictures = []
    for across, index, where in places:
        spacing = gallery.pixel_mm(image, across)
        cut = slices.to_screen(marks, across, index)
        maps = [slices.to_screen(regions[..., r], across, index) for r in range(len(looks))]
        masks = [
            np.zeros(cut.shape, bool) if level is None else values > level
            for values, level in zip(maps, levels, strict=True)
        ]
        box = slices.content_box(image.array, across, spacing)
        for look, mask in zip(looks, masks, strict=True):
            if not look.dashed and mask.any():  # a region outside the head is to be seen
                box = gallery.grown_box(box, mask)
        if cut.any():
            box = gallery.grown_box(box, cut > 0)
        plane = slices.PLANES[across]
        pictures.append(
            slices.frame(
                slices.to_screen(image.array, across, index)[box],
                (
                    *_region_outlines([mask[box] for mask in masks], looks, spacing),
                    *_reference_outlines(cut[box], spacing),
                ),
                spacing,
                plane=plane,
                window=window,
                caption=f"{channel}, {plane} slice {index + 1}",
                alt=f"{plane.capitalize()} {channel} slice through {where} with regions and "
                "reference outlined, in radiological orientation",
                tint="" if tint is None else _tint(slices.to_screen(tint, across, index)[box]),
            )
        )
    return tuple(pictures)


def overlay_svg(case: str, pictures: Sequence[Picture], looks: Sequence[RegionLook]) -> str:
    """The slices of a case side by side at one scale, with a legend, as an SVG file.

    Parameters
    ----------
    case : str
    pictures : sequence of Picture
    looks : sequence of RegionLook
        Regions that the case has.

    Returns
    -------
    str
    """
    left = np.cumsum([0.0, *(picture.width_mm + GAP_MM for picture in pictures)])
    return render(
        "overlay.svg.j2",
        {
            "case": case,
            "pictures": list(zip(left[:-1].tolist(), pictures, strict=True)),
            "legend": [
                *((look.kind, look.dashed, f"{look.name} ({look.weight:g})") for look in looks),
                ("reference", False, "reference"),
            ],
            "width": float(left[-1] - GAP_MM),
            "height": max(picture.height_mm for picture in pictures),
        },
    )


def _region_outlines(
    masks: Sequence[np.ndarray], looks: Sequence[RegionLook], spacing: tuple[float, float]
) -> list[Outline]:
    """Dashed ones last, so that both lines of a shared border are seen."""
    drawn = []
    for look, mask in sorted(zip(looks, masks, strict=True), key=lambda pair: pair[0].dashed):
        path = outline_path(mask, spacing, at_edges=False, dashed=look.dashed)
        if path:
            drawn.append(Outline(path, 0, look.kind))
    return drawn


def _reference_outlines(cut: np.ndarray, spacing: tuple[float, float]) -> list[Outline]:
    return [
        Outline(
            outline_path(cut == value, spacing, dashed=bool(value == IGNORE)),
            int(value),
            "reference",
        )
        for value in np.unique(cut[cut > 0])
    ]


def _tint(depth: np.ndarray) -> str:
    pixels = np.empty((*depth.shape, 4), np.uint8)
    pixels[..., :3] = TINT_RGB
    pixels[..., 3] = np.rint(TINT_ALPHA * np.clip(depth, 0, 1))
    return slices.png_address(pixels)
