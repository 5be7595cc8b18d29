"""Pictures of slices in radiological orientation: what is drawn, where, at which scale."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import nibabel as nib
import numpy as np
from PIL import Image
from scipy.ndimage import find_objects

from segpipe.lesions.shape import in_plane_diameter_mm
from segpipe.report.lettering import Lettering, place_numbers
from segpipe.report.outlines import Outline, outline_path
from segpipe.volume import Volume

PLANES = ("sagittal", "coronal", "axial")  # the plane across axis 0, 1, 2 of a RAS volume
MARKS = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}  # left, right, top, bottom
MARGIN_MM = 6.0
CLOSE_UP_MM = 48.0
WHOLE_MM = 100.0  # no close-up is larger


@dataclass(frozen=True)
class Picture:
    """One slice with its annotations; all places in mm from the top left corner.

    Parameters
    ----------
    image : str
        PNG as a data address.
    width_mm, height_mm : float
        Extent of the slice: pixels are stretched to their true aspect.
    left, right, top, bottom : str
        Letters of the patient's directions at the edges.
    alt : str
        What is to be seen, in words.
    tint : str
        A transparent PNG over the image as a data address, or empty.
    """

    image: str
    width_mm: float
    height_mm: float
    outlines: tuple[Outline, ...]
    left: str
    right: str
    top: str
    bottom: str
    caption: str
    alt: str
    tint: str = ""
    numbers: tuple[Lettering, ...] = ()

    @property
    def is_close_up(self) -> bool:
        """Whether it shows a part: such are shown smaller."""
        return max(self.width_mm, self.height_mm) <= WHOLE_MM

    @property
    def scale_mm(self) -> int:
        """Length of the scale bar."""
        return 10 if self.is_close_up else 50

    @property
    def text_mm(self) -> float:
        """What sizes of letters and lines follow."""
        share = 0.078 if self.is_close_up else 0.052
        return share * max(self.width_mm, self.height_mm)

    @property
    def marks(self) -> tuple[Lettering, ...]:
        """The patient's directions, and what the scale bar says."""
        size, w, h = self.text_mm, self.width_mm, self.height_mm
        middle = h / 2 + 0.35 * size
        over_bar = w - 0.6 * size - self.scale_mm / 2
        return (
            Lettering(self.left, 0.75 * size, middle, size),
            Lettering(self.right, w - 0.75 * size, middle, size),
            Lettering(self.top, w / 2, 1.05 * size, 0.8 * size, "faint"),
            Lettering(self.bottom, w / 2, h - 0.4 * size, 0.8 * size, "faint"),
            Lettering(f"{self.scale_mm} mm", over_bar, h - size, 0.7 * size),
        )


def to_ras(volume: Volume) -> Volume:
    """The same voxels with axes flipped and swapped to run closest to right, anterior, superior."""
    orientation = nib.orientations.io_orientation(volume.affine)
    array = nib.orientations.apply_orientation(volume.array, orientation)
    back = nib.orientations.inv_ornt_aff(orientation, volume.shape)
    return Volume(array, volume.affine @ back, volume.form_codes)


def tilt_degrees(volume: Volume) -> float:
    """Largest angle between an axis of a RAS volume and the patient's own axis."""
    directions = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    return float(np.degrees(np.arccos(np.clip(np.abs(np.diag(directions)), 0, 1)).max()))


def viewing_axis(volume: Volume) -> int:
    """Axis to look along: the coarsest of a thick-sliced RAS scan, else superior (axial)."""
    spacing = np.array(volume.spacing_mm)
    coarsest = int(spacing.argmax())
    return coarsest if spacing[coarsest] > 2 * np.median(spacing) else 2


def viewing_plane(volume: Volume) -> str:
    """Plane of the slices of a scan in any orientation, one of :data:`PLANES`."""
    return PLANES[viewing_axis(to_ras(volume))]


def in_plane_diameters(components: Volume) -> dict[int, float]:
    """Longest diameter in mm within one slice of the viewing plane, by component.

    Parameters
    ----------
    components : Volume
        (X, Y, Z) integer ids.
    """
    ids = to_ras(components)
    axis = viewing_axis(ids)
    boxes = enumerate(find_objects(ids.array), start=1)
    return {
        number: in_plane_diameter_mm(ids.array[box] == number, ids.affine, axis)
        for number, box in boxes
        if box is not None
    }


def grey_window(array: np.ndarray, components: np.ndarray) -> tuple[float, float]:
    """Black and white of the display.

    Taken from voxels that are not 0 in the middle 60 % along each axis (0.5th and 98th
    percentile), so that bright fat under the skin doesn't darken the organ inside; white is
    raised to the 99th percentile of the components, so that bright lesions keep their texture.

    Parameters
    ----------
    array : (X, Y, Z) ndarray
    components : (X, Y, Z) int ndarray
    """
    middle = array[tuple(slice(n // 5, n - n // 5) for n in array.shape)]
    voxels = middle[np.isfinite(middle) & (middle != 0)]
    if voxels.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(voxels[:: max(1, voxels.size // 500_000)], (0.5, 98))
    if components.any():
        high = max(high, np.percentile(array[components > 0], 99))
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1.0)


def to_screen(array: np.ndarray, axis: int, index: int) -> np.ndarray:
    """A slice of a RAS array as rows and columns in radiological orientation.

    Columns run from the patient's right to left (sagittal: anterior to posterior), rows from
    anterior to posterior (coronal, sagittal: superior to inferior).
    """
    return np.take(array, index, axis=axis)[::-1, ::-1].T


def content_box(array: np.ndarray, axis: int, spacing_mm: tuple[float, float]) -> tuple[slice, ...]:
    """Rows and columns on the screen with anything above 8 % of the 99th percentile."""
    step = max(1, round((array.size / 500_000) ** (1 / 3)))
    level = np.percentile(array[::step, ::step, ::step], 99) * 0.08
    seen = to_screen(np.any(array > level, axis=axis, keepdims=True), axis, 0)
    box = []
    for other, spacing, size in zip((1, 0), spacing_mm, seen.shape, strict=True):
        places = np.flatnonzero(seen.any(axis=other))
        margin = round(MARGIN_MM / spacing)
        first, last = (places[0], places[-1]) if places.size else (0, size - 1)
        box.append(slice(max(0, int(first) - margin), min(size, int(last) + 1 + margin)))
    return tuple(box)


def best_index(components: np.ndarray, component: int, axis: int) -> int:
    """The slice that cuts through most voxels of a component."""
    others = tuple(a for a in range(3) if a != axis)
    return int((components == component).sum(axis=others).argmax())


def close_up_box(
    mask: np.ndarray, spacing_mm: tuple[float, float], extent_mm: float
) -> tuple[slice, ...]:
    """A window of ``extent_mm`` about the middle of a mask, kept inside the slice."""
    box = []
    for axis, spacing in enumerate(spacing_mm):
        size = mask.shape[axis]
        places = np.flatnonzero(mask.any(axis=1 - axis))
        length = min(size, max(1, round(extent_mm / spacing)))
        first = (int(places[0]) + int(places[-1]) + 1 - length) // 2
        first = min(max(first, 0), size - length)
        box.append(slice(first, first + length))
    return tuple(box)


def png_address(pixels: np.ndarray) -> str:
    """A (rows, columns) grey or (rows, columns, 4) RGBA uint8 array as a PNG data address."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def to_grey(values: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Values scaled between the window's ends to uint8; what is not finite is black."""
    scaled = (np.nan_to_num(values, nan=window[0]) - window[0]) / (window[1] - window[0])
    return np.asarray(np.clip(scaled, 0, 1) * 255, dtype=np.uint8)


def draw(
    image: np.ndarray,
    components: np.ndarray,
    spacing_mm: tuple[float, float],
    *,
    plane: str,
    kinds: Mapping[int, str],
    tagged: Collection[int],
    window: tuple[float, float],
    caption: str,
    alt: str,
) -> Picture:
    """Annotate a slice.

    Parameters
    ----------
    image, components : (rows, columns) ndarray
        Of one slice as returned by :func:`to_screen`.
    spacing_mm : (float, float)
        Height and width of a pixel.
    plane : str
        One of :data:`PLANES`.
    kinds : mapping of int to str
        Kind of a component's outline; ``other`` where it is not named.
    tagged : collection of int
        Components that get their number beside them.
    window : (float, float)
        Values shown black and white.
    caption, alt : str
    """
    outlines = [
        Outline(outline_path(components == i, spacing_mm), i, kinds.get(i, "other"))
        for i in sorted(int(i) for i in np.unique(components) if i != 0)
    ]
    picture = frame(
        image,
        tuple(sorted(outlines, key=lambda outline: outline.kind == "chosen")),
        spacing_mm,
        plane=plane,
        window=window,
        caption=caption,
        alt=alt,
    )
    numbers = place_numbers(
        components,
        {outline.component: outline.kind for outline in outlines if outline.component in tagged},
        spacing_mm,
        size_mm=0.85 * picture.text_mm,
        marks=picture.marks,
    )
    return replace(picture, numbers=numbers)


def frame(
    image: np.ndarray,
    outlines: tuple[Outline, ...],
    spacing_mm: tuple[float, float],
    *,
    plane: str,
    window: tuple[float, float],
    caption: str,
    alt: str,
    tint: str = "",
) -> Picture:
    """A slice with outlines that are drawn already, marks and scale (see :func:`draw`)."""
    height, width = (n * s for n, s in zip(image.shape, spacing_mm, strict=True))
    left, right, top, bottom = tuple(MARKS[plane])
    return Picture(
        image=png_address(to_grey(image, window)),
        width_mm=float(width),
        height_mm=float(height),
        outlines=outlines,
        left=left,
        right=right,
        top=top,
        bottom=bottom,
        caption=caption,
        alt=alt,
        tint=tint,
    )
